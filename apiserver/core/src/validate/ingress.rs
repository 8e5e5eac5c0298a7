//! Ingresses and their classes, NetworkPolicies, and the kinds of address allocation (kubernetes
//! `pkg/apis/networking/validation`).

use std::net::IpAddr;

use serde_json::Value;
use xebec_api::field::{Error, Path};
use xebec_api::{meta, name_rules};

use super::{domain_prefixed_path, one_of, port_number, problems, require};

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const NOT_AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// An Ingress leads somewhere.
pub fn ingress(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Vec::new();
    let rules = meta::list_at(spec, &["rules"]);
    let default = spec.get("defaultBackend").filter(|backend| backend.is_object());
    if rules.is_empty() && default.is_none() {
        errors.push(Error::invalid(&path, Value::Null, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(backend) = default {
        errors.extend(ingress_backend(backend, &path.child("defaultBackend")));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(i);
        let host = meta::str_at(rule, &["host"]);
        if host.parse::<IpAddr>().is_ok() {
            errors.push(Error::invalid(&path.child("host"), host, "must be a DNS name, not an IP address"));
        } else if !host.is_empty() {
            let rest = host.strip_prefix("*.").unwrap_or(host);
            errors.extend(problems(&path.child("host"), host, name_rules::dns_subdomain(rest)));
        }
        if let Some(http) = rule.get("http").filter(|http| http.is_object()) {
            errors.extend(ingress_paths(meta::list_at(http, &["paths"]), &path.child("http").child("paths")));
        }
    }
    errors
}

fn ingress_paths(paths: &[Value], path: &Path) -> Vec<Error> {
    if paths.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = Vec::new();
    for (i, one) in paths.iter().enumerate() {
        let path = path.index(i);
        let (kind, at) = (meta::str_at(one, &["pathType"]), meta::str_at(one, &["path"]));
        if kind.is_empty() {
            errors.push(Error::required(&path.child("pathType"), "pathType must be specified"));
        }
        errors.extend(one_of(one, "pathType", &PATH_TYPES, &path));
        let absolute = at.starts_with('/') || (kind == "ImplementationSpecific" && at.is_empty());
        if PATH_TYPES.contains(&kind) && !absolute {
            errors.push(Error::invalid(&path.child("path"), at, "must be an absolute path"));
        }
        errors.extend(ingress_backend(&one["backend"], &path.child("backend")));
    }
    errors
}

fn ingress_backend(backend: &Value, path: &Path) -> Vec<Error> {
    let has = |key: &str| backend.get(key).is_some_and(Value::is_object);
    match (has("resource"), has("service")) {
        (true, true) => return vec![Error::invalid(path, "", "cannot set both resource and service backends")],
        (true, false) => return Vec::new(),
        (false, false) => return vec![Error::required(path, "resource or service backend is required")],
        (false, true) => {}
    }
    let (service, path) = (&backend["service"], path.child("service"));
    let name = meta::str_at(service, &["name"]);
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    } else {
        errors.extend(problems(&path.child("name"), name, name_rules::dns_1035_label(name)));
    }
    let port_path = path.child("port");
    let (port_name, number) = (meta::str_at(service, &["port", "name"]), meta::i64_at(service, &["port", "number"]));
    match (port_name, number.unwrap_or(0)) {
        ("", 0) => errors.push(Error::required(&path, "port name or number is required")),
        ("", number) => errors.extend(port_number(number, &port_path.child("number"))),
        (name, 0) => errors.extend(super::port_name(name, &port_path.child("name"))),
        _ => errors.push(Error::invalid(&path, "", "cannot set both port name & port number")),
    }
    errors
}

/// An IngressClass names its controller.
pub fn ingress_class(object: &Value) -> Vec<Error> {
    domain_prefixed_path(meta::str_at(object, &["spec", "controller"]), &Path::new("spec.controller"))
}

/// A NetworkPolicy.
pub fn network_policy(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, kind) in meta::list_at(object, &["spec", "policyTypes"]).iter().enumerate() {
        if !matches!(kind.as_str(), Some("Ingress" | "Egress")) {
            let path = Path::new("spec.policyTypes").index(i);
            errors.push(Error::not_supported(&path, kind.clone(), &["Egress", "Ingress"]));
        }
    }
    for rules in ["ingress", "egress"] {
        for (i, rule) in meta::list_at(object, &["spec", rules]).iter().enumerate() {
            for (j, port) in meta::list_at(rule, &["ports"]).iter().enumerate() {
                let path = Path::new("spec").child(rules).index(i).child("ports").index(j);
                errors.extend(one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &path));
            }
        }
    }
    errors
}

/// An IPAddress is named by the address and belongs to something.
pub fn ip_address(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = meta::name(object);
    if name.parse::<IpAddr>().is_err() {
        errors.push(Error::invalid(&Path::new("metadata.name"), name, NOT_AN_ADDRESS));
    }
    let path = Path::new("spec.parentRef");
    match object["spec"].get("parentRef").filter(|parent| parent.is_object()) {
        None => errors.push(Error::required(&path, "")),
        Some(parent) => errors.extend(require(parent, &["resource", "name"], &path)),
    }
    errors
}

/// A ServiceCIDR has one range, or one of each family.
pub fn service_cidr(object: &Value) -> Vec<Error> {
    let (cidrs, path) = (meta::list_at(object, &["spec", "cidrs"]), Path::new("spec.cidrs"));
    if cidrs.is_empty() {
        return vec![Error::required(&path, "at least one CIDR required")];
    }
    if cidrs.len() > 2 {
        let why = "may only hold up to 2 values";
        return vec![Error::invalid(&path, Value::Array(cidrs.to_vec()), why)];
    }
    let broken = |cidr: &Value| cidr.as_str().is_none_or(|cidr| cidr.parse::<ipnet::IpNet>().is_err());
    let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let broken = cidrs.iter().enumerate().filter(|(_, cidr)| broken(cidr));
    broken.map(|(i, cidr)| Error::invalid(&path.index(i), cidr.clone(), why)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field.as_str().to_owned()).collect()
    }

    #[test]
    fn ingresses_are_refused_where_upstream_refuses_them() {
        let check = |spec: Value, expected: &[&str]| assert_eq!(fields(ingress(&json!({"spec": spec}))), expected);
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        check(json!({}), &["spec"]);
        check(json!({"defaultBackend": backend}), &[]);
        check(json!({"defaultBackend": {}}), &["spec.defaultBackend"]);
        let rule = |path: Value| json!({"rules": [{"host": "*.example.com", "http": {"paths": [path]}}]});
        check(rule(json!({"path": "/", "pathType": "Prefix", "backend": backend})), &[]);
        check(rule(json!({"path": "/", "backend": backend})), &["spec.rules[0].http.paths[0].pathType"]);
        check(
            rule(json!({"path": "x", "pathType": "Exact", "backend": {"service": {"name": "web"}}})),
            &["spec.rules[0].http.paths[0].path", "spec.rules[0].http.paths[0].backend.service"],
        );
        check(json!({"rules": [{"host": "10.0.0.1"}]}), &["spec.rules[0].host"]);
    }

    #[test]
    fn classes_policies_and_addresses_are_checked() {
        assert_eq!(fields(ingress_class(&json!({}))), ["spec.controller"]);
        assert_eq!(fields(ingress_class(&json!({"spec": {"controller": "bare"}}))), ["spec.controller"]);
        assert!(ingress_class(&json!({"spec": {"controller": "example.com/ingress"}})).is_empty());
        assert_eq!(fields(network_policy(&json!({"spec": {"policyTypes": ["Both"]}}))), ["spec.policyTypes[0]"]);
        assert_eq!(fields(ip_address(&json!({"metadata": {"name": "x"}}))), ["metadata.name", "spec.parentRef"]);
        let owned =
            json!({"metadata": {"name": "10.96.0.9"}, "spec": {"parentRef": {"resource": "services", "name": "a"}}});
        assert!(ip_address(&owned).is_empty());
        assert_eq!(fields(service_cidr(&json!({}))), ["spec.cidrs"]);
        assert_eq!(fields(service_cidr(&json!({"spec": {"cidrs": ["10.0.0.0/16", "x"]}}))), ["spec.cidrs[1]"]);
    }
}
