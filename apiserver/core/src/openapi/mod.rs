//! OpenAPI v2 and v3 documents, from the facts, the resource table and k8s-openapi's descriptions.
//!
//! A document costs a few milliseconds and some megabytes to make: servers make it when it is first asked for and keep
//! the compressed bytes. `kubectl explain` and server-side `fieldValidation` negotiation read v3, older clients v2.

mod descriptions;
mod document;
mod operation;
mod parameters;
mod paths;
mod schema;

pub use document::{custom_v3_document, v2_document, v3_document, v3_index, v3_paths};

/// The two dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Swagger 2.0, one document for everything.
    V2,
    /// OpenAPI 3.0, a document per group version.
    V3,
}

impl Dialect {
    /// A reference to a schema by name.
    fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// A resource as OpenAPI sees it: built in, or defined by a CustomResourceDefinition.
#[derive(Clone, Debug)]
pub struct Entry {
    /// API group, `""` for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Plural.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Verbs, as discovery spells them.
    pub verbs: Vec<&'static str>,
    /// Subresources.
    pub subresources: Vec<SubEntry>,
    /// Schema of its objects, by name.
    pub schema: String,
    /// Schema of its lists, by name.
    pub list_schema: String,
}

/// A subresource as OpenAPI sees it.
#[derive(Clone, Debug)]
pub struct SubEntry {
    /// `status`, `scale`.
    pub name: String,
    /// Group of what is exchanged.
    pub group: String,
    /// Version of what is exchanged.
    pub version: String,
    /// Kind of what is exchanged.
    pub kind: String,
    /// Verbs.
    pub verbs: Vec<&'static str>,
    /// Schema of what is exchanged, by name.
    pub schema: String,
}

#[cfg(test)]
mod tests;
