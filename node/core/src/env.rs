//! Environments of containers: references, `$(NAME)` expansion, service links, and the downward API's fields.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, ObjectFieldSelector, Pod, ResourceFieldSelector, Service};

use crate::{pod, resources};

/// Why a container cannot get its environment; upstream's `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The object is not there (yet).
    #[error("{kind} \"{name}\" not found")]
    NoObject {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object lacks the key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// The downward API has no such field.
    #[error("unsupported fieldPath: {0}")]
    NoField(String),
}

/// Data of the objects a pod refers to; absent names are objects that do not exist.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// ConfigMaps by name, text and binary data together.
    pub config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

/// What the downward API tells besides the pod's own fields.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The node's name.
    pub node_name: String,
    /// The node's address.
    pub host_ip: String,
    /// The pod's addresses, first the primary one.
    pub pod_ips: Vec<String>,
    /// Allocatable thousandths of a CPU, the default of `limits.cpu`.
    pub node_cpu_milli: i64,
    /// Allocatable bytes, the default of `limits.memory`.
    pub node_memory_bytes: i64,
}

/// Expands `$(NAME)` from `known`; `$$` is a dollar, unknown names stay as they are (`third_party/forked/golang/expansion`).
pub fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("$$") {
            out.push('$');
            rest = &rest[2..];
        } else if let Some(end) = rest.strip_prefix("$(").and_then(|inner| inner.find(')')) {
            let name = &rest[2..2 + end];
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[..end + 3]),
            }
            rest = &rest[end + 3..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// The container's environment, in order. `services` are those of the pod's namespace plus `default/kubernetes`.
pub fn environment(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    services: &[&Service],
    facts: &Facts,
) -> Result<Vec<(String, String)>, Error> {
    let mut known = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut set = |name: String, value: String, known: &mut BTreeMap<String, String>| {
        if known.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (data, kind, name, optional) = if let Some(config) = &source.config_map_ref {
            (objects.config_maps.get(&config.name), "configmap", &config.name, config.optional)
        } else if let Some(secret) = &source.secret_ref {
            (objects.secrets.get(&secret.name), "secret", &secret.name, secret.optional)
        } else {
            continue;
        };
        match data {
            Some(data) => {
                for (key, value) in data {
                    set(format!("{prefix}{key}"), String::from_utf8_lossy(value).into_owned(), &mut known);
                }
            }
            None if optional == Some(true) => {}
            None => return Err(Error::NoObject { kind, name: name.clone() }),
        }
    }
    let links = service_links(pod, services);
    // `$(NAME)` sees service links, but a variable of the pod wins over a link.
    let mut visible: BTreeMap<String, String> = links.iter().cloned().collect();
    visible.extend(known.clone());
    for variable in container.env.iter().flatten() {
        if let Some(value) = variable_value(pod, container, variable, objects, facts, &visible)? {
            visible.insert(variable.name.clone(), value.clone());
            set(variable.name.clone(), value, &mut known);
        }
    }
    for (name, value) in links {
        if !known.contains_key(&name) {
            set(name, value, &mut known);
        }
    }
    Ok(order.into_iter().filter_map(|name| known.remove(&name).map(|value| (name, value))).collect())
}

fn variable_value(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    objects: &Objects,
    facts: &Facts,
    known: &BTreeMap<String, String>,
) -> Result<Option<String>, Error> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), known)));
    };
    if let Some(field) = &source.field_ref {
        return field_value(pod, field, facts).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return Ok(Some(resource_value(pod, container, resource, facts)));
    }
    let (data, kinds, name, key, optional) = if let Some(config) = &source.config_map_key_ref {
        (objects.config_maps.get(&config.name), ("configmap", "ConfigMap"), &config.name, &config.key, config.optional)
    } else if let Some(secret) = &source.secret_key_ref {
        (objects.secrets.get(&secret.name), ("secret", "Secret"), &secret.name, &secret.key, secret.optional)
    } else {
        return Ok(Some(String::new()));
    };
    match data.map(|data| data.get(key)) {
        Some(Some(value)) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        _ if optional == Some(true) => Ok(None),
        None => Err(Error::NoObject { kind: kinds.0, name: name.clone() }),
        Some(None) => Err(Error::NoKey {
            kind: kinds.1,
            namespace: pod::namespace(pod).to_owned(),
            name: name.clone(),
            key: key.clone(),
        }),
    }
}

/// A field of the downward API.
pub fn field_value(pod: &Pod, field: &ObjectFieldSelector, facts: &Facts) -> Result<String, Error> {
    let path = field.field_path.as_str();
    let map = |map: &Option<BTreeMap<String, String>>| {
        let lines = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let subscript = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
    let metadata = &pod.metadata;
    Ok(match path {
        "metadata.name" => pod::name(pod).to_owned(),
        "metadata.namespace" => pod::namespace(pod).to_owned(),
        "metadata.uid" => pod::uid(pod).to_owned(),
        "metadata.labels" => map(&metadata.labels),
        "metadata.annotations" => map(&metadata.annotations),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => pod::spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => {
            let (source, key) = if let Some(key) = subscript("metadata.labels['") {
                (&metadata.labels, key)
            } else if let Some(key) = subscript("metadata.annotations['") {
                (&metadata.annotations, key)
            } else {
                return Err(Error::NoField(path.to_owned()));
            };
            source.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
        }
    })
}

/// A resource field of the downward API, in units of its divisor, rounded up.
pub fn resource_value(pod: &Pod, own: &Container, field: &ResourceFieldSelector, facts: &Facts) -> String {
    let named = field.container_name.as_deref().and_then(|name| pod::container(pod, name));
    let container = named.unwrap_or(own);
    let (list, name) = field.resource.split_once('.').unwrap_or_default();
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let list = if list == "limits" { limits } else { resources.and_then(|resources| resources.requests.as_ref()) };
    let set = list.and_then(|list| list.get(name)).and_then(resources::value).filter(|value| *value > 0.0);
    let value = set.unwrap_or(match (field.resource.as_str(), name) {
        ("limits.cpu", _) => facts.node_cpu_milli as f64 / 1000.0,
        ("limits.memory", _) => facts.node_memory_bytes as f64,
        _ => 0.0,
    });
    let divisor = field.divisor.as_ref().and_then(resources::value).filter(|value| *value > 0.0).unwrap_or(1.0);
    format!("{}", (value / divisor - 1e-9).ceil() as i64)
}

/// Docker-style variables for services (`pkg/kubelet/envvars`).
fn service_links(pod: &Pod, services: &[&Service]) -> Vec<(String, String)> {
    let all = pod::spec(pod).enable_service_links.unwrap_or(true);
    let mut links = Vec::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let is_api = name == "kubernetes" && namespace == "default";
        if !is_api && (!all || namespace != pod::namespace(pod)) {
            continue;
        }
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        let prefix = name.to_uppercase().replace('-', "_");
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        links.push((format!("{prefix}_SERVICE_HOST"), ip.to_owned()));
        links.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let port_name = port_name.to_uppercase().replace('-', "_");
                links.push((format!("{prefix}_SERVICE_PORT_{port_name}"), port.port.to_string()));
            }
        }
        let url = |port: &k8s_openapi::api::core::v1::ServicePort| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
            (format!("{protocol}://{ip}:{}", port.port), protocol)
        };
        links.push((format!("{prefix}_PORT"), url(first).0));
        for port in ports {
            let (url, protocol) = url(port);
            let prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
            links.push((prefix.clone(), url));
            links.push((format!("{prefix}_PROTO"), protocol));
            links.push((format!("{prefix}_PORT"), port.port.to_string()));
            links.push((format!("{prefix}_ADDR"), ip.to_owned()));
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_expand_and_unknown_ones_stay() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expected) in
            [("$(A)", "1"), ("x$(A)y$(B)", "x1y$(B)"), ("$$(A)", "$(A)"), ("$", "$"), ("$(A", "$(A"), ("a$b", "a$b")]
        {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    fn example(env: serde_json::Value) -> (Pod, Container) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c", "image": "i", "env": env,
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
                "resources": {"limits": {"memory": "64Mi"}}}]},
        }))
        .unwrap();
        let container = pod.spec.as_ref().unwrap().containers[0].clone();
        (pod, container)
    }

    #[test]
    fn environments_come_from_every_source_in_order() {
        let (pod, container) = example(json!([
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(P_k)-$(WEB_SERVICE_HOST)"},
            {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "t"}}},
            {"name": "O", "valueFrom": {"secretKeyRef": {"name": "none", "key": "t", "optional": true}}},
        ]));
        let mut objects = Objects::default();
        objects.config_maps.insert("m".into(), [("k".to_owned(), b"v".to_vec())].into());
        objects.secrets.insert("s".into(), [("t".to_owned(), b"u".to_vec())].into());
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "d"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]},
        }))
        .unwrap();
        let found = environment(&pod, &container, &objects, &[&service], &Facts::default()).unwrap();
        let expected = [("P_k", "v"), ("A", "1"), ("B", "1-v-10.96.0.7"), ("N", "x"), ("M", "64"), ("S", "u")];
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found[..6], expected);
        assert!(found.contains(&("WEB_PORT_80_TCP_ADDR", "10.96.0.7")), "{found:?}");
    }

    #[test]
    fn missing_objects_are_told_by_name() {
        let (pod, container) = example(json!([]));
        let error = environment(&pod, &container, &Objects::default(), &[], &Facts::default()).unwrap_err();
        assert_eq!(error.to_string(), "configmap \"m\" not found");
    }
}
