//! In what a kind may differ from the others.

use serde_json::Value;
use xebec_api::{field, name_rules};

use crate::context::RequestContext;

/// When `metadata.generation` counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerationRule {
    /// Never: the kind has none.
    None,
    /// 1 at first, one more whenever `spec` changes.
    Spec,
    /// 1 at first, one more whenever anything but `metadata` and `status` changes.
    Content,
}

/// What happens to `status` on writes to the object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusRule {
    /// Wiped on create, kept on update; written through the `status` subresource only.
    Subresource,
    /// A field like any other (kinds without a status subresource).
    Plain,
}

/// A kind's own rules. [`Strategy::DEFAULT`] suits kinds without any.
#[derive(Clone, Copy)]
pub struct Strategy {
    /// Fills in absent fields; called often, must be idempotent.
    pub default: fn(&mut Value),
    /// Sets what only the server may set at creation. System metadata is already there.
    pub prepare_create: fn(&mut Value, &RequestContext),
    /// Restores what an update may not touch. Arguments: new, old.
    pub prepare_update: fn(&mut Value, &Value),
    /// Everything about a new object but metadata.
    pub validate: fn(&Value) -> Vec<field::Error>,
    /// What may not change; `validate` runs as well. Arguments: new, old.
    pub validate_update: fn(&Value, &Value) -> Vec<field::Error>,
    /// What may not change by way of `status`. Arguments: new, old.
    pub validate_status_update: fn(&Value, &Value) -> Vec<field::Error>,
    /// What a name must look like.
    pub name: fn(&str) -> Vec<String>,
    /// When the generation counts up.
    pub generation: GenerationRule,
    /// Whether a PUT may come without a resourceVersion.
    pub unconditional_update: bool,
    /// Whether PUT of a name that does not exist creates it.
    pub create_on_update: bool,
}

impl Strategy {
    /// No special rules: any DNS subdomain is a name, nothing is defaulted or validated beyond the schema.
    pub const DEFAULT: Self = Self {
        default: |_| {},
        prepare_create: |_, _| {},
        prepare_update: |_, _| {},
        validate: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status_update: |_, _| Vec::new(),
        name: name_rules::dns_subdomain,
        generation: GenerationRule::None,
        unconditional_update: true,
        create_on_update: false,
    };
}

/// Names that need only be one path segment: RBAC objects, FlowSchemas (apimachinery `path.IsValidPathSegmentName`).
pub(crate) fn path_segment_name(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|bad| name.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}
