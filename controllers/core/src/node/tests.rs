use serde_json::Value;

use super::*;

const NOW: &str = "2026-01-01T00:01:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn node(ready: &str, taints: Value) -> Arc<Node> {
    let body = json!({
        "metadata": { "name": "n1", "uid": "n1", "resourceVersion": "1" },
        "spec": { "taints": taints },
        "status": { "conditions": [{ "type": "Ready", "status": ready }] },
    });
    Arc::new(serde_json::from_value(body).unwrap())
}

fn pod(tolerations: Value) -> Arc<Pod> {
    let body = json!({
        "metadata": { "name": "p", "namespace": "a", "uid": "p" },
        "spec": { "nodeName": "n1", "containers": [], "tolerations": tolerations },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    Arc::new(serde_json::from_value(body).unwrap())
}

fn observe(node: Arc<Node>, heard: &str, any_ready: bool) -> Vec<Action> {
    reconcile(&Observed {
        node,
        heard: at(heard),
        grace: Duration::from_secs(40),
        any_ready,
        pods: vec![pod(json!([]))],
        now: at(NOW),
    })
}

fn taints(actions: &[Action]) -> Vec<String> {
    let patch = actions.iter().find_map(|action| match action {
        Action::Patch { target, body, .. } if target.resource.plural == "nodes" => Some(body),
        _ => None,
    });
    let list = patch.and_then(|body| body["spec"]["taints"].as_array().cloned()).unwrap_or_default();
    let text = |taint: &Value| {
        format!("{}:{}", taint["key"].as_str().unwrap().rsplit('/').next().unwrap(), taint["effect"].as_str().unwrap())
    };
    list.iter().map(text).collect()
}

#[test]
fn a_node_in_time_only_sets_its_timer() {
    let actions = observe(node("True", json!([])), "2026-01-01T00:00:50Z", true);
    let printed: Vec<_> = actions.iter().map(ToString::to_string).collect();
    assert_eq!(printed, ["wake after 30s"]);
}

#[test]
fn a_silent_node_is_unknown_tainted_and_its_pods_not_ready() {
    let actions = observe(node("True", json!([])), "2026-01-01T00:00:00Z", true);
    assert_eq!(taints(&actions), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
    let printed: Vec<_> = actions.iter().map(ToString::to_string).collect();
    assert!(printed.contains(&"update nodes n1 status".to_owned()), "{printed:?}");
    assert!(printed.contains(&"patch pods a/p status".to_owned()), "{printed:?}");
}

#[test]
fn nothing_is_evicted_when_every_node_is_silent() {
    let actions = observe(node("True", json!([])), "2026-01-01T00:00:00Z", false);
    assert_eq!(taints(&actions), ["unreachable:NoSchedule"]);
}

#[test]
fn a_node_that_returns_loses_our_taints_only() {
    let before = json!([
        { "key": UNREACHABLE, "effect": NO_EXECUTE }, { "key": "mine", "effect": NO_SCHEDULE },
    ]);
    let actions = observe(node("True", before), "2026-01-01T00:00:50Z", true);
    assert_eq!(taints(&actions), ["mine:NoSchedule"]);
}

fn eviction(tolerations: Value, effect: &str) -> Vec<String> {
    let taint = json!([{ "key": UNREACHABLE, "effect": effect, "timeAdded": "2026-01-01T00:00:00Z" }]);
    let observed = EvictionObserved { pod: pod(tolerations), node: node("Unknown", taint), now: at(NOW) };
    evict(&observed).iter().map(ToString::to_string).filter(|a| !a.starts_with("event")).collect()
}

#[test]
fn tolerations_decide_when_a_pod_goes() {
    let gone = ["patch pods a/p status", "delete pods a/p"];
    let tolerate = |seconds: Option<i64>| json!([{ "key": UNREACHABLE, "operator": "Exists", "effect": NO_EXECUTE, "tolerationSeconds": seconds }]);
    assert_eq!(eviction(json!([]), NO_EXECUTE), gone);
    assert_eq!(eviction(tolerate(Some(300)), NO_EXECUTE), ["wake after 240s"]);
    assert_eq!(eviction(tolerate(Some(60)), NO_EXECUTE), gone);
    assert!(eviction(tolerate(None), NO_EXECUTE).is_empty());
    assert!(eviction(json!([]), NO_SCHEDULE).is_empty());
}
