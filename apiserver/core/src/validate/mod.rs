//! What an object must be beyond its schema, in upstream's words (kubernetes `pkg/apis/*/validation`).

mod cluster;
mod config;
mod container;
mod ingress;
mod network;
mod pod;
mod policy;
mod storage;
mod workload;

pub use cluster::{
    csr, csr_prepare_create, csr_prepare_update, lease, namespace, namespace_prepare_create, namespace_prepare_update,
    node, node_update, pending_phase, persistent_volume_claim, persistent_volume_claim_update, priority_class,
    priority_class_update, rbac, rbac_update, storage_class_update,
};
pub use config::{config_map, config_map_update, secret, secret_update};
pub use ingress::{ingress, ingress_class, ip_address, network_policy, service_cidr};
pub use network::{endpoint_slice, endpoint_slice_update, endpoints, service, service_update};
pub use pod::{pod, pod_prepare_create, pod_spec, pod_status_update, pod_update};
pub use policy::{
    admission, api_service, controller_revision, custom_resource_definition, flow_schema, horizontal_pod_autoscaler,
    pod_disruption_budget, pod_template, priority_level, resource_slice, runtime_class,
};
pub use storage::{csi_storage_capacity, persistent_volume, storage_class, volume_attachment, volume_attributes_class};
pub use workload::{
    controller_revision_update, cron_job, daemon_set, deployment, job, job_update, replica_set, replication_controller,
    selector_immutable, stateful_set, stateful_set_update,
};

use serde_json::Value;
use xebec_api::field::{Error, Path};
use xebec_api::meta;

/// Invalid for every problem found.
fn problems(path: &Path, value: &str, problems: Vec<String>) -> Vec<Error> {
    problems.into_iter().map(|problem| Error::invalid(path, value, problem)).collect()
}

/// The value must not be negative.
fn non_negative(object: &Value, key: &str, path: &Path) -> Vec<Error> {
    match meta::i64_at(object, &[key]) {
        Some(n) if n < 0 => vec![Error::invalid(&path.child(key), n, "must be greater than or equal to 0")],
        _ => Vec::new(),
    }
}

/// The value must be one of a set, if it is there.
fn one_of(object: &Value, key: &str, supported: &[&str], path: &Path) -> Vec<Error> {
    let value = meta::str_at(object, &[key]);
    if value.is_empty() || supported.contains(&value) {
        return Vec::new();
    }
    vec![Error::not_supported(&path.child(key), value, supported)]
}

/// These texts must be there.
fn require(object: &Value, keys: &[&str], path: &Path) -> Vec<Error> {
    let missing = keys.iter().filter(|key| meta::str_at(object, &[**key]).is_empty());
    missing.map(|key| Error::required(&path.child(key), "")).collect()
}

/// A domain, a slash and a path (apimachinery `IsDomainPrefixedPath`).
fn domain_prefixed_path(value: &str, path: &Path) -> Vec<Error> {
    if value.is_empty() {
        return vec![Error::required(path, "")];
    }
    match value.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            problems(path, value, xebec_api::name_rules::dns_subdomain(domain))
        }
        _ => vec![Error::invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")")],
    }
}

/// The value must be as it was.
fn immutable(new: &Value, old: &Value, steps: &[&str]) -> Vec<Error> {
    let (is, was) = (meta::get(new, steps), meta::get(old, steps));
    if is == was {
        return Vec::new();
    }
    vec![Error::invalid(&Path::new(steps.join(".")), is.cloned().unwrap_or(Value::Null), "field is immutable")]
}

/// A port number.
fn port_number(number: i64, path: &Path) -> Vec<Error> {
    if (1..=65_535).contains(&number) {
        return Vec::new();
    }
    vec![Error::invalid(path, number, "must be between 1 and 65535, inclusive")]
}

/// A port's name (apimachinery `IsValidPortName`).
fn port_name(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut say = |text: &str| errors.push(Error::invalid(path, name, text));
    if name.len() > 15 {
        say("must be no more than 15 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        say("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        say("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        say("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        say("must not begin or end with a hyphen");
    }
    errors
}
