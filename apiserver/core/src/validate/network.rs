//! Services, Endpoints, EndpointSlices.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;
use xebec_api::field::{Error, Path};
use xebec_api::{meta, name_rules};

use super::{immutable, one_of, port_name, port_number, problems};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
/// Most endpoints of one slice.
const ENDPOINTS_MAX: usize = 1000;
/// Most ports of one slice.
const PORTS_MAX: usize = 100;

/// A Service, its addresses allocated or not.
pub fn service(object: &Value) -> Vec<Error> {
    let spec = &object["spec"];
    let path = Path::new("spec");
    let mut errors = one_of(spec, "type", &TYPES, &path);
    errors.extend(one_of(spec, "sessionAffinity", &["ClientIP", "None"], &path));
    errors.extend(one_of(spec, "internalTrafficPolicy", &["Cluster", "Local"], &path));
    errors.extend(one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], &path));
    let kind = meta::str_at(spec, &["type"]);
    let cluster_ip = meta::str_at(spec, &["clusterIP"]);
    let ports = meta::list_at(spec, &["ports"]);
    if kind == "ExternalName" {
        let name = meta::str_at(spec, &["externalName"]);
        if name.is_empty() {
            errors.push(Error::required(&path.child("externalName"), ""));
        } else {
            errors.extend(problems(
                &path.child("externalName"),
                name,
                name_rules::dns_subdomain(name.trim_end_matches('.')),
            ));
        }
        if !cluster_ip.is_empty() {
            errors.push(Error::invalid(
                &path.child("clusterIPs").index(0),
                cluster_ip,
                "may not be set for ExternalName services",
            ));
        }
    } else if ports.is_empty() && cluster_ip != "None" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    if cluster_ip == "None" && matches!(kind, "NodePort" | "LoadBalancer") {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.push(Error::invalid(&path.child("clusterIPs").index(0), cluster_ip, detail));
    } else if !cluster_ip.is_empty() && cluster_ip != "None" && cluster_ip.parse::<IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(Error::invalid(&path.child("clusterIPs").index(0), cluster_ip, detail));
    }
    errors.extend(service_ports(ports, &path.child("ports")));
    if let Some(selector) = spec.get("selector").and_then(Value::as_object) {
        errors.extend(crate::registry::labels_errors(selector, &path.child("selector")));
    }
    for (i, ip) in meta::list_at(spec, &["externalIPs"]).iter().enumerate() {
        if ip.as_str().is_none_or(|ip| ip.parse::<IpAddr>().is_err()) {
            errors.push(Error::invalid(
                &path.child("externalIPs").index(i),
                ip.clone(),
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ));
        }
    }
    errors
}

fn service_ports(ports: &[Value], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (mut names, mut numbers, mut node_ports) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = meta::str_at(port, &["name"]);
        if name.is_empty() && ports.len() > 1 {
            errors.push(Error::required(&path.child("name"), ""));
        } else if !name.is_empty() {
            errors.extend(problems(&path.child("name"), name, name_rules::dns_label(name)));
            if !names.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
        }
        let protocol = meta::str_at(port, &["protocol"]);
        errors.extend(one_of(port, "protocol", &PROTOCOLS, &path));
        let number = meta::i64_at(port, &["port"]).unwrap_or(0);
        errors.extend(port_number(number, &path.child("port")));
        match port.get("targetPort") {
            Some(Value::String(name)) => errors.extend(port_name(name, &path.child("targetPort"))),
            Some(target) => errors.extend(port_number(target.as_i64().unwrap_or(0), &path.child("targetPort"))),
            None => {}
        }
        if !numbers.insert((protocol, number)) {
            errors.push(Error::duplicate(&path, serde_json::json!({"port": number, "protocol": protocol})));
        }
        if let Some(node_port) = meta::i64_at(port, &["nodePort"]).filter(|n| *n != 0)
            && !node_ports.insert((protocol, node_port))
        {
            errors.push(Error::duplicate(&path.child("nodePort"), node_port));
        }
    }
    errors
}

/// A Service's address is its own for life, unless its type leaves or joins ExternalName.
pub fn service_update(new: &Value, old: &Value) -> Vec<Error> {
    let external = |object: &Value| meta::str_at(object, &["spec", "type"]) == "ExternalName";
    let was = meta::str_at(old, &["spec", "clusterIP"]);
    if external(new) || external(old) || was.is_empty() || meta::str_at(new, &["spec", "clusterIP"]) == was {
        return Vec::new();
    }
    let is = meta::get(new, &["spec", "clusterIP"]).cloned().unwrap_or("".into());
    vec![Error::invalid(&Path::new("spec.clusterIPs").index(0), is, "may not change once set")]
}

/// Endpoints.
pub fn endpoints(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, subset) in meta::list_at(object, &["subsets"]).iter().enumerate() {
        let path = Path::new("subsets").index(i);
        let (ready, not_ready) = (meta::list_at(subset, &["addresses"]), meta::list_at(subset, &["notReadyAddresses"]));
        if ready.is_empty() && not_ready.is_empty() {
            errors.push(Error::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (list, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            for (i, address) in addresses.iter().enumerate() {
                errors.extend(endpoint_ip(meta::str_at(address, &["ip"]), &path.child(list).index(i).child("ip")));
            }
        }
        for (i, port) in meta::list_at(subset, &["ports"]).iter().enumerate() {
            errors.extend(port_number(
                meta::i64_at(port, &["port"]).unwrap_or(0),
                &path.child("ports").index(i).child("port"),
            ));
        }
    }
    errors
}

/// Loopback and link-local addresses lead somewhere else on every node.
fn endpoint_ip(ip: &str, path: &Path) -> Vec<Error> {
    let Ok(address) = ip.parse::<IpAddr>() else {
        return vec![Error::invalid(path, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")];
    };
    let (unspecified, loopback) = (address.is_unspecified(), address.is_loopback());
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match (unspecified, loopback, local) {
        (true, ..) => vec![Error::invalid(path, ip, format!("may not be unspecified ({ip})"))],
        (_, true, _) => vec![Error::invalid(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)")],
        (.., true) => vec![Error::invalid(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")],
        _ => Vec::new(),
    }
}

/// An EndpointSlice.
pub fn endpoint_slice(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let kind = meta::str_at(object, &["addressType"]);
    if kind.is_empty() {
        errors.push(Error::required(&Path::new("addressType"), ""));
    }
    errors.extend(one_of(object, "addressType", &["FQDN", "IPv4", "IPv6"], &Path::root()));
    let (endpoints, ports) = (meta::list_at(object, &["endpoints"]), meta::list_at(object, &["ports"]));
    if endpoints.len() > ENDPOINTS_MAX {
        errors.push(Error::too_many(&Path::new("endpoints"), endpoints.len(), ENDPOINTS_MAX));
    }
    if ports.len() > PORTS_MAX {
        errors.push(Error::too_many(&Path::new("ports"), ports.len(), PORTS_MAX));
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = Path::new("endpoints").index(i).child("addresses");
        let addresses = meta::list_at(endpoint, &["addresses"]);
        if addresses.is_empty() {
            errors.push(Error::required(&path, "must contain at least 1 address"));
        }
        for (j, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            if kind != "FQDN" {
                errors.extend(endpoint_ip(address, &path.index(j)));
            }
        }
    }
    errors
}

/// A slice's address type never changes.
pub fn endpoint_slice_update(new: &Value, old: &Value) -> Vec<Error> {
    immutable(new, old, &["addressType"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, expected: &[&str]) {
        let mut object = json!({"spec": spec});
        crate::defaults::service(&mut object);
        let fields: Vec<String> = service(&object).iter().map(|e| e.field.as_str().to_owned()).collect();
        assert_eq!(fields, expected, "{object}");
    }

    #[test]
    fn services_are_refused_where_upstream_refuses_them() {
        check(json!({"ports": [{"port": 80}]}), &[]);
        check(json!({}), &["spec.ports"]);
        check(json!({"clusterIP": "None"}), &[]);
        check(json!({"ports": [{"port": 80}, {"port": 81}]}), &["spec.ports[0].name", "spec.ports[1].name"]);
        check(json!({"ports": [{"port": 0}]}), &["spec.ports[0].port", "spec.ports[0].targetPort"]);
        check(json!({"type": "Nope", "ports": [{"port": 80}]}), &["spec.type"]);
        check(json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}), &["spec.clusterIPs[0]"]);
        check(json!({"type": "ExternalName"}), &["spec.externalName"]);
    }

    #[test]
    fn a_cluster_ip_stays() {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9"}});
        let new = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.8"}});
        assert_eq!(service_update(&new, &old).len(), 1);
        assert!(service_update(&old, &old).is_empty());
    }

    #[test]
    fn slices_hold_real_addresses() {
        let slice = |ip: &str| json!({"addressType": "IPv4", "endpoints": [{"addresses": [ip]}]});
        assert!(endpoint_slice(&slice("10.244.1.2")).is_empty());
        assert_eq!(endpoint_slice(&slice("127.0.0.1")).len(), 1);
        assert_eq!(endpoint_slice(&slice("x")).len(), 1);
        assert_eq!(endpoint_slice(&json!({})).len(), 1);
    }
}
