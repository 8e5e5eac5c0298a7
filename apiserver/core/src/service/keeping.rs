//! What an update leaves out and keeps all the same.

use serde_json::{Value, json};
use xebec_api::meta;

use super::{held_ports, wants_health_check, wants_node_ports};

/// An update that leaves numbers out keeps them, and one that changes the type gives back what the new type has no use for
/// (kubernetes `pkg/registry/core/service/storage/storage.go`, `patchAllocatedValues`; `strategy.go`,
/// `dropTypeDependentFields`).
pub fn keep_allocated(new: &mut Value, old: &Value) {
    let is_external = |service: &Value| meta::str_at(service, &["spec", "type"]) == "ExternalName";
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let is_absent = meta::get(new, &["spec", field])
            .is_none_or(|value| value.is_null() || *value == json!("") || *value == json!([]));
        match meta::get(old, &["spec", field]) {
            _ if is_external(new) => drop(meta::remove(new, &["spec", field])),
            Some(value) if is_absent && !is_external(old) => meta::set(new, &["spec", field], value.clone()),
            _ => {}
        }
    }
    keep_health_check_port(new, old);
    keep_node_ports(new, old);
}

fn keep_health_check_port(new: &mut Value, old: &Value) {
    let number = |service: &Value| meta::i64_at(service, &["spec", "healthCheckNodePort"]).unwrap_or(0);
    match (wants_health_check(old), wants_health_check(new)) {
        (true, true) if number(new) == 0 => meta::set(new, &["spec", "healthCheckNodePort"], number(old).into()),
        (true, false) if number(new) == number(old) => drop(meta::remove(new, &["spec", "healthCheckNodePort"])),
        _ => {}
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let (wants, given) = (wants_node_ports(new), held_ports(old));
    let had = wants_node_ports(old);
    let used = held_ports(new);
    let before = meta::list_at(old, &["spec", "ports"]).to_vec();
    let Some(ports) = meta::get_mut(new, &["spec", "ports"]).and_then(Value::as_array_mut) else { return };
    for port in ports {
        let number = meta::i64_at(port, &["nodePort"]).unwrap_or(0);
        if !wants {
            // A number that the old type gave; one that the client wishes now is for validation to judge.
            if had && given.contains(&number) {
                meta::remove(port, &["nodePort"]);
            }
            continue;
        }
        let is_same = |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
        let kept = before.iter().find(is_same).and_then(|old| meta::i64_at(old, &["nodePort"]));
        if let Some(kept) = kept.filter(|kept| number == 0 && *kept != 0 && !used.contains(kept)) {
            port["nodePort"] = kept.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(new: Value, old: &Value, expected: Value) {
        let mut kept = json!({"spec": new});
        keep_allocated(&mut kept, old);
        assert_eq!(kept["spec"], expected);
    }

    #[test]
    fn a_change_of_type_gives_ports_back_and_an_update_keeps_them() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 81, "protocol": "TCP", "nodePort": 30081}]}});
        let ip = |kind: &str, ports: Value| json!({"type": kind, "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ports": ports});
        check(
            json!({"type": "NodePort", "ports": [{"port": 81, "protocol": "TCP"}, {"port": 80, "protocol": "TCP"}]}),
            &old,
            ip(
                "NodePort",
                json!([{"port": 81, "protocol": "TCP", "nodePort": 30081}, {"port": 80, "protocol": "TCP", "nodePort": 30080}]),
            ),
        );
        check(
            json!({"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}),
            &old,
            ip("ClusterIP", json!([{"port": 80, "protocol": "TCP"}])),
        );
        check(json!({"type": "ExternalName", "clusterIP": "10.96.0.5"}), &old, json!({"type": "ExternalName"}));
    }

    #[test]
    fn the_port_of_a_health_check_stays_as_long_as_it_is_needed() {
        let old =
            json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}});
        let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
        check(local, &old, old["spec"].clone());
        let cluster = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"});
        let mut sent = cluster.clone();
        sent["healthCheckNodePort"] = 31000.into();
        check(sent, &old, cluster);
    }
}
