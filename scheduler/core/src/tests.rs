use crate::{Decision, Snapshot, preempt, schedule};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn node(name: &str, zone: &str, extra: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
    });
    merge(&mut node, extra);
    serde_json::from_value(node).unwrap()
}

fn pod(name: &str, extra: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name, "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c"}]},
    });
    merge(&mut pod, extra);
    serde_json::from_value(pod).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

fn cpu(amount: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]}})
}

fn cluster(nodes: &[Node]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    nodes.iter().for_each(|node| snapshot.set_node(node));
    snapshot
}

fn three() -> Snapshot {
    cluster(&[node("n1", "a", json!({})), node("n2", "a", json!({})), node("n3", "b", json!({}))])
}

/// Schedules and places; the node's name, or the message.
fn put(snapshot: &mut Snapshot, mut pod: Pod) -> String {
    match schedule(snapshot, &pod) {
        Decision::Bind { node } => {
            pod.spec.as_mut().unwrap().node_name = Some(node.clone());
            snapshot.set_pod(&pod);
            node
        }
        Decision::Unfit(unfit) => unfit.to_string(),
    }
}

#[test]
fn messages_read_as_upstreams() {
    assert_eq!(put(&mut Snapshot::new(), pod("p", json!({}))), "no nodes available to schedule pods");
    let tainted = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let mut snapshot = cluster(&[node("n1", "a", tainted), node("n2", "a", json!({})), node("n3", "b", json!({}))]);
    assert_eq!(
        put(&mut snapshot, pod("p", cpu("3"))),
        "0/3 nodes are available: 1 node(s) had untolerated taint {k: v}, 2 Insufficient cpu."
    );
    let picky = json!({"spec": {"nodeSelector": {"disk": "ssd"}}});
    let Decision::Unfit(unfit) = schedule(&snapshot, &pod("p", picky)) else { panic!() };
    assert_eq!(
        format!("{unfit} {}", unfit.preemption_note()),
        "0/3 nodes are available: 1 node(s) had untolerated taint {k: v}, \
         2 node(s) didn't match Pod's node affinity/selector. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
}

#[test]
fn taints_cordons_names_and_ports_are_respected() {
    let tolerant = json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}});
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}});
    let mut snapshot = cluster(&[node("n1", "a", tainted)]);
    assert_eq!(put(&mut snapshot, pod("p", tolerant)), "n1");
    let mut snapshot = cluster(&[node("n1", "a", json!({"spec": {"unschedulable": true}}))]);
    assert!(put(&mut snapshot, pod("p", json!({}))).contains("1 node(s) were unschedulable."));
    let mut snapshot = cluster(&[node("n1", "a", json!({}))]);
    let port = || json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    assert_eq!(put(&mut snapshot, pod("p", port())), "n1");
    assert!(put(&mut snapshot, pod("q", port())).contains("didn't have free ports"));
    snapshot.remove_pod("p");
    assert_eq!(put(&mut snapshot, pod("q", port())), "n1");
}

#[test]
fn pods_of_a_service_spread_over_hosts() {
    let mut snapshot = three();
    let service: Service = serde_json::from_value(
        json!({"metadata": {"namespace": "default", "name": "s"}, "spec": {"selector": {"app": "a"}}}),
    )
    .unwrap();
    snapshot.set_service(&service);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for index in 0..6 {
        *counts.entry(put(&mut snapshot, pod(&format!("p{index}"), json!({})))).or_default() += 1;
    }
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [2, 2, 2], "{counts:?}");
}

#[test]
fn hard_spread_constraints_hold() {
    let constraint = || {
        json!({"spec": {"topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "a"}},
        }]}})
    };
    let mut snapshot = three();
    let mut zones: BTreeMap<bool, i32> = BTreeMap::new();
    for index in 0..8 {
        let placed = put(&mut snapshot, pod(&format!("p{index}"), constraint()));
        *zones.entry(placed == "n3").or_default() += 1;
        let (a, b) = (zones.get(&false).copied().unwrap_or(0), zones.get(&true).copied().unwrap_or(0));
        assert!((a - b).abs() <= 1, "{zones:?}");
    }
}

#[test]
fn affinity_gathers_and_anti_affinity_separates_in_both_directions() {
    let near = || {
        json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}},
        ]}}}})
    };
    let apart = || {
        json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}},
        ]}}}})
    };
    let mut snapshot = three();
    let first = put(&mut snapshot, pod("p1", near()));
    assert!(first.starts_with('n'), "the first of its kind may go anywhere: {first}");
    assert_eq!(put(&mut snapshot, pod("p2", near())), first);

    let mut snapshot = three();
    let mut places: Vec<_> = (0..3).map(|index| put(&mut snapshot, pod(&format!("p{index}"), apart()))).collect();
    places.sort();
    assert_eq!(places, ["n1", "n2", "n3"]);
    assert!(put(&mut snapshot, pod("p3", apart())).contains("3 node(s) didn't match pod anti-affinity rules."));
    let refused = put(&mut snapshot, pod("p4", json!({})));
    assert!(refused.contains("3 node(s) didn't satisfy existing pods anti-affinity rules."), "{refused}");
}

#[test]
fn preemption_takes_the_least_important_and_no_more_than_needed() {
    let mut snapshot = cluster(&[node("n1", "a", json!({}))]);
    let mut with_priority = |name: &str, amount: &str, priority: i32| {
        let mut pod = pod(name, cpu(amount));
        pod.spec.as_mut().unwrap().priority = Some(priority);
        assert_eq!(put(&mut snapshot, pod), "n1");
    };
    with_priority("low", "500m", 1);
    with_priority("middle", "1", 5);
    with_priority("high", "500m", 9);
    let mut important = pod("vip", cpu("400m"));
    important.spec.as_mut().unwrap().priority = Some(7);
    let Decision::Unfit(unfit) = schedule(&snapshot, &important) else { panic!() };
    let preemption = preempt(&snapshot, &important, &unfit).unwrap();
    let victims: Vec<_> = preemption.victims.iter().map(|victim| victim.name.as_str()).collect();
    assert_eq!((preemption.node.as_str(), victims), ("n1", vec!["low"]));
    important.spec.as_mut().unwrap().priority = Some(0);
    assert!(preempt(&snapshot, &important, &unfit).is_none());
}

#[test]
fn a_snapshot_forgets_as_exactly_as_it_remembers() {
    let mut snapshot = three();
    let before = format!("{snapshot:?}");
    let service = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "b"}}},
    ]}}}});
    put(&mut snapshot, pod("p", service));
    snapshot.remove_pod("p");
    assert_eq!(format!("{snapshot:?}"), before);
}

proptest! {
    /// Whatever arrives and leaves: no node is ever overcommitted, every refusal names each node once or more, the same
    /// question gets the same answer, and the incremental sums equal those counted anew.
    #[test]
    fn never_overcommits_and_reasons_add_up(
        sizes in proptest::collection::vec((0_i64..1500, 0_i64..3000, any::<bool>()), 1..40),
    ) {
        let mut snapshot = three();
        let mut placed: Vec<Pod> = Vec::new();
        for (index, (milli, mebibytes, leaves)) in sizes.into_iter().enumerate() {
            let requests = json!({"cpu": format!("{milli}m"), "memory": format!("{mebibytes}Mi")});
            let spec = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
            let mut pod = pod(&format!("p{index}"), spec);
            let decision = schedule(&snapshot, &pod);
            prop_assert_eq!(&decision, &schedule(&snapshot, &pod));
            match decision {
                Decision::Bind { node } => {
                    pod.spec.as_mut().unwrap().node_name = Some(node);
                    snapshot.set_pod(&pod);
                    placed.push(pod);
                }
                Decision::Unfit(unfit) => {
                    prop_assert_eq!(unfit.refused.len(), unfit.nodes);
                    prop_assert!(unfit.refused.values().all(|reasons| !reasons.is_empty()));
                }
            }
            if leaves && !placed.is_empty() {
                let gone = placed.swap_remove(index % placed.len());
                snapshot.remove_pod(gone.metadata.uid.as_deref().unwrap());
            }
            let mut anew = three();
            placed.iter().for_each(|pod| anew.set_pod(pod));
            for (node, counted) in snapshot.nodes().zip(anew.nodes()) {
                prop_assert!(node.used.milli_cpu <= node.allocatable.milli_cpu);
                prop_assert!(node.used.memory <= node.allocatable.memory);
                prop_assert!(node.used.pods <= node.allocatable.pods);
                prop_assert_eq!(&node.used, &counted.used);
                prop_assert_eq!(node.scored, counted.scored);
            }
        }
    }
}
