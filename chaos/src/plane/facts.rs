//! What checkers ask of an object.

use serde_json::Value;
use xebec_chaos_core::history::Facts;

/// The facts of an object of any kind.
pub(super) fn facts(object: &Value) -> Facts {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let texts = |path: &str| strings(object.pointer(path));
    let owners = list(object.pointer("/metadata/ownerReferences"));
    let holder = text("/spec/holderIdentity");
    Facts {
        uid: text("/metadata/uid"),
        finalizers: texts("/metadata/finalizers"),
        owners: owners.iter().filter_map(|owner| owner["uid"].as_str()).map(str::to_owned).collect(),
        deleting: object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()),
        node: text("/spec/nodeName"),
        phase: text("/status/phase"),
        restarts: restarts(object),
        claims: claims(object),
        term: if holder.is_empty() { holder } else { format!("{holder}@{}", text("/spec/acquireTime")) },
        generations: generations(object),
        replicas: replicas(object),
    }
}

/// An object's resourceVersion.
pub(super) fn revision(object: &Value) -> Option<u64> {
    object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()
}

/// An object's name.
pub(super) fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    list(value).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn restarts(object: &Value) -> u64 {
    list(object.pointer("/status/containerStatuses")).iter().filter_map(|status| status["restartCount"].as_u64()).sum()
}

fn claims(object: &Value) -> Vec<String> {
    let addresses = strings(object.pointer("/spec/clusterIPs"));
    let addresses = addresses.into_iter().filter(|ip| ip != "None").map(|ip| format!("ip/{ip}"));
    let ports = list(object.pointer("/spec/ports")).iter().filter_map(|port| port["nodePort"].as_u64());
    addresses.chain(ports.map(|port| format!("port/{port}"))).collect()
}

fn generations(object: &Value) -> Option<(u64, u64)> {
    let number = |path: &str| object.pointer(path).and_then(Value::as_u64);
    object.pointer("/status")?;
    Some((number("/metadata/generation")?, number("/status/observedGeneration").unwrap_or(0)))
}

/// Of whatever has a replica count and reports what is up to date.
fn replicas(object: &Value) -> Option<(u64, u64)> {
    let number = |path: &str| object.pointer(path).and_then(Value::as_u64);
    object.pointer("/spec/strategy")?;
    let available =
        number("/status/availableReplicas").unwrap_or(0).min(number("/status/updatedReplicas").unwrap_or(0));
    Some((number("/spec/replicas")?, available))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_services_claims_are_its_addresses_and_node_ports() {
        let service = json!({"metadata": {"uid": "u", "name": "s", "resourceVersion": "7"},
            "spec": {"clusterIPs": ["10.96.0.9"], "ports": [{"port": 80, "nodePort": 30001}, {"port": 81}]}});
        assert_eq!(facts(&service).claims, ["ip/10.96.0.9", "port/30001"]);
        assert_eq!((revision(&service), name(&service)), (Some(7), "s"));
    }

    #[test]
    fn a_deployment_counts_only_what_is_up_to_date() {
        let deployment = json!({"metadata": {"generation": 2}, "spec": {"replicas": 3, "strategy": {}},
            "status": {"observedGeneration": 1, "availableReplicas": 3, "updatedReplicas": 1}});
        assert_eq!((facts(&deployment).replicas, facts(&deployment).generations), (Some((3, 1)), Some((2, 1))));
    }
}
