//! Services, EndpointSlices, Ingresses, NetworkPolicies.

use serde_json::{Value, json};
use xebec_api::meta;

use super::{absent, child, empty, existing, items};

/// Stickiness by client address lasts three hours.
const CLIENT_IP_TIMEOUT_SECONDS: i64 = 10_800;

/// A Service. Addresses and families are allocated later (`service`).
pub fn service(object: &mut Value) {
    let spec = child(object, "spec");
    empty(spec, "sessionAffinity", "None");
    match meta::str_at(spec, &["sessionAffinity"]) {
        "None" => {
            meta::remove(spec, &["sessionAffinityConfig"]);
        }
        _ => {
            absent(child(child(spec, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds", CLIENT_IP_TIMEOUT_SECONDS)
        }
    }
    empty(spec, "type", "ClusterIP");
    for port in items(spec, "ports") {
        empty(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        if port.get("targetPort").is_none_or(|t| t.is_null() || *t == json!(0) || *t == json!("")) {
            port["targetPort"] = number;
        }
    }
    let kind = meta::str_at(spec, &["type"]).to_owned();
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !meta::list_at(spec, &["externalIPs"]).is_empty());
    if external {
        empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        absent(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        absent(spec, "allocateLoadBalancerNodePorts", true);
    }
    absent(child(object, "status"), "loadBalancer", json!({}));
}

/// An EndpointSlice.
pub fn endpoint_slice(object: &mut Value) {
    for port in items(object, "ports") {
        absent(port, "name", "");
        absent(port, "protocol", "TCP");
    }
}

/// An IngressClass: its parameters are the cluster's, if it has any.
pub fn ingress_class(object: &mut Value) {
    if let Some(parameters) = object.get_mut("spec").and_then(|spec| existing(spec, "parameters")) {
        empty(parameters, "scope", "Cluster");
    }
}

/// A NetworkPolicy: it always speaks about ingress, about egress only where it has such rules.
pub fn network_policy(object: &mut Value) {
    let spec = child(object, "spec");
    absent(spec, "podSelector", json!({}));
    for (rules, ports) in [("ingress", "ports"), ("egress", "ports")] {
        for rule in items(spec, rules) {
            items(rule, ports).for_each(|port| absent(port, "protocol", "TCP"));
        }
    }
    if meta::list_at(spec, &["policyTypes"]).is_empty() {
        let egress = !meta::list_at(spec, &["egress"]).is_empty();
        spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_by_type() {
        let mut object = json!({"spec": {"ports": [{"port": 80}]}});
        service(&mut object);
        assert_eq!(
            object["spec"],
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None", "type": "ClusterIP",
                   "internalTrafficPolicy": "Cluster"})
        );
        let mut node_port = json!({"spec": {"type": "NodePort", "sessionAffinity": "ClientIP"}});
        service(&mut node_port);
        assert_eq!(node_port["spec"]["externalTrafficPolicy"], json!("Cluster"));
        assert_eq!(node_port["spec"]["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
    }

    #[test]
    fn network_policies_speak_about_ingress() {
        let mut policy = json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}});
        network_policy(&mut policy);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], json!("TCP"));
    }
}
