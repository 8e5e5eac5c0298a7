//! What is served: the rows of the resource table, bound to their rules.

use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use xebec_api::resource::{REGISTRY, Resource, Storage, resources};
use xebec_api::{GroupVersionKind, Status, codec, facts, meta};
use xebec_apiserver_core::conversion::Conversion;
use xebec_apiserver_core::fields;
use xebec_apiserver_core::registry::{Row, StatusRule};

/// One resource in one version.
pub struct Served {
    /// Names and rules.
    pub row: Row,
    /// The version at rest.
    pub storage: GroupVersionKind,
    /// Path of its keys behind the store's prefix; empty: not stored.
    pub storage_path: String,
    /// Kind of its lists.
    pub list_kind: String,
    /// Whether it has a protobuf form.
    pub has_protobuf: bool,
    /// Its row in the table.
    pub resource: &'static Resource,
}

impl Served {
    fn of(resource: &'static Resource) -> Self {
        let gvk = GroupVersionKind::new(resource.group, resource.version, resource.kind);
        let with_status = resource.subresources.iter().any(|sub| sub.name == "status");
        let status = if with_status { StatusRule::Subresource } else { StatusRule::Plain };
        let storage_path = match &resource.storage {
            Storage::Stored { prefix } => prefix.trim_start_matches(REGISTRY).trim_matches('/').to_owned(),
            Storage::Virtual => String::new(),
        };
        Self {
            row: Row::new(gvk.clone(), resource.plural, resource.namespaced, status),
            storage: resource.storage_gvk(),
            storage_path,
            list_kind: resource.list_kind.clone(),
            has_protobuf: facts::facts().kind(&gvk).is_some(),
            resource,
        }
    }

    /// Whether its objects are stored.
    pub fn is_stored(&self) -> bool {
        !self.storage_path.is_empty()
    }

    /// Key of an object behind the resource's prefix.
    pub fn local_key(&self, namespace: &str, name: &str) -> String {
        if self.row.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    /// What the keys of a namespace (empty: all) begin with, behind the resource's prefix.
    pub fn local_prefix(&self, namespace: &str) -> String {
        if self.row.namespaced && !namespace.is_empty() { format!("{namespace}/") } else { String::new() }
    }

    /// The object as it is stored: in the storage version, without what the store itself knows.
    pub fn encode(&self, object: &Value) -> Result<Bytes, Status> {
        let mut stored = object.clone();
        self.conversion().store(&mut stored);
        meta::set_gvk(&mut stored, &self.storage);
        let metadata = meta::metadata_mut(&mut stored);
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
        let failed =
            |error: &dyn std::fmt::Display| Status::internal_error(&format!("cannot encode the object: {error}"));
        if !self.has_protobuf {
            return serde_json::to_vec(&stored).map(Bytes::from).map_err(|error| failed(&error));
        }
        codec::encode_envelope(&self.storage, &stored).map(Bytes::from).map_err(|error| failed(&error))
    }

    /// A stored object, in the version served, with its resourceVersion.
    pub fn decode(&self, stored: &[u8], revision: i64) -> Result<Value, Status> {
        let mut object = codec::decode_any(stored)
            .map_err(|error| Status::internal_error(&format!("the stored object cannot be read: {error}")))?;
        meta::set_resource_version(&mut object, revision.unsigned_abs());
        Ok(self.typed(object))
    }

    /// Whether the served form differs from the stored one in more than its `apiVersion`.
    pub fn converts(&self) -> bool {
        self.conversion() != Conversion::Same
    }

    fn conversion(&self) -> Conversion {
        let (served, stored) = (&self.row.gvk, &self.storage);
        Conversion::of((&served.group, &served.version, &served.kind), (&stored.group, &stored.version))
    }

    /// A stored object in the form and with the `apiVersion` and `kind` of the version served.
    pub fn typed(&self, mut object: Value) -> Value {
        self.conversion().serve(&mut object);
        meta::set_gvk(&mut object, &self.row.gvk);
        object
    }

    /// What a stored object of it may be selected by.
    pub fn fields(&self, stored: &Value) -> BTreeMap<String, String> {
        fields::of_stored(&self.row.gvk.group, &self.row.gvk.kind, stored)
    }
}

/// Everything that is served.
pub struct Registry {
    by_name: HashMap<String, Arc<Served>>,
    preferred: HashMap<String, Arc<Served>>,
}

impl Registry {
    /// The built-in resources.
    pub fn built_in() -> Self {
        let mut by_name = HashMap::new();
        let mut preferred: HashMap<String, Arc<Served>> = HashMap::new();
        for resource in resources() {
            let served = Arc::new(Served::of(resource));
            by_name.insert(format!("{}/{}/{}", resource.group, resource.version, resource.plural), Arc::clone(&served));
            // Caches decode what is stored, so that the storage version is the one to read in.
            let is_storage = resource.storage_gvk() == resource.gvk();
            let slot = preferred
                .entry(format!("{}/{}", resource.group, resource.plural))
                .or_insert_with(|| Arc::clone(&served));
            if is_storage {
                *slot = served;
            }
        }
        Self { by_name, preferred }
    }

    /// The resource of a URL.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Served>> {
        self.by_name.get(&format!("{group}/{version}/{plural}"))
    }

    /// A resource in the version in which it is stored.
    pub fn preferred(&self, group: &str, plural: &str) -> Option<&Arc<Served>> {
        self.preferred.get(&format!("{group}/{plural}"))
    }
}
