//! Absent fields get upstream's values (kubernetes `pkg/apis/*/v1/defaults.go`). Every function is idempotent.

mod core;
mod network;
mod pod;
mod policy;
mod workload;

pub use self::core::{
    endpoints, event, limit_range, namespace, node, persistent_volume, persistent_volume_claim, secret,
};
pub use network::{endpoint_slice, ingress_class, network_policy, service};
pub use pod::{pod, pod_spec, pod_template};
pub use policy::{
    certificate_signing_request, csi_driver, flow_schema, horizontal_pod_autoscaler, pod_disruption_budget,
    priority_class, rbac_binding, storage_class, webhooks,
};
pub use workload::{
    cron_job, daemon_set, deployment, job, job_selector, replica_set, replication_controller, stateful_set,
};

use serde_json::{Map, Value};
use xebec_api::meta;

/// Sets `key` of an object if it is absent or null.
fn absent(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// Like [`absent`], for strings where Go cannot tell `""` from nothing.
fn empty(object: &mut Value, key: &str, value: &str) {
    if meta::str_at(object, &[key]).is_empty() {
        absent_or_empty(object, key, value);
    }
}

fn absent_or_empty(object: &mut Value, key: &str, value: &str) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// The object at `key`, made if absent.
fn child<'a>(object: &'a mut Value, key: &str) -> &'a mut Value {
    absent(object, key, Map::new());
    &mut object[key]
}

/// The object at `key`, if there is one.
fn existing<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    object.get_mut(key).filter(|value| value.is_object())
}

/// The items of the list at `key`, none if it is absent.
fn items<'a>(object: &'a mut Value, key: &str) -> std::slice::IterMut<'a, Value> {
    object.get_mut(key).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default().iter_mut()
}
