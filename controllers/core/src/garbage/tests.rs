use serde_json::json;

use super::*;

fn item(name: &str, owners: &[&str], deleting: bool, finalizers: &[&str]) -> Item {
    let owners: Vec<_> = owners
        .iter()
        .map(|owner| {
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": owner,
                "blockOwnerDeletion": true })
        })
        .collect();
    let meta = serde_json::from_value(json!({
        "name": name, "namespace": "a", "uid": name, "resourceVersion": "1",
        "ownerReferences": owners, "finalizers": finalizers,
        "deletionTimestamp": deleting.then_some("2026-01-01T00:00:00Z"),
    }))
    .unwrap();
    Item::new(&Resource::of::<k8s_openapi::api::core::v1::ConfigMap>(), &meta).unwrap()
}

fn graph(items: Vec<Item>) -> Graph {
    let mut graph = Graph::default();
    for item in items {
        graph.upsert(item);
    }
    graph
}

fn settle(graph: &Graph, uid: &str, absent: &[&str]) -> Vec<String> {
    let absent = absent.iter().map(|uid| (*uid).to_owned()).collect();
    let observed = Observed { graph, uid, absent };
    reconcile(&observed)
        .into_iter()
        .map(|action| match action {
            Action::Delete { target, options } => {
                format!("delete {} {}", target.name, options.propagation.unwrap().as_str())
            }
            Action::Patch { target, body, .. } => {
                let meta = &body["metadata"];
                let owners = meta["ownerReferences"]
                    .as_array()
                    .map(|owners| owners.iter().map(|o| o["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>());
                match owners {
                    Some(owners) => format!("{} owned by {owners:?}", target.name),
                    None => format!("{} finalizers {}", target.name, meta["finalizers"]),
                }
            }
            other => other.to_string(),
        })
        .collect()
}

#[test]
fn what_lost_its_last_owner_goes_and_what_lost_one_of_two_stays() {
    let mut graph = graph(vec![item("owner", &[], false, &[]), item("child", &["owner"], false, &[])]);
    assert!(settle(&graph, "child", &[]).is_empty());
    assert_eq!(graph.remove("owner"), ["child"]);
    assert_eq!(graph.unknown_owners("child").len(), 1);
    assert!(settle(&graph, "child", &[]).is_empty(), "not before the API server has said so");
    assert_eq!(settle(&graph, "child", &["owner"]), ["delete child Background"]);
    graph.upsert(item("other", &[], false, &[]));
    graph.upsert(item("child", &["owner", "other"], false, &[]));
    assert_eq!(settle(&graph, "child", &["owner"]), ["child owned by [\"other\"]"]);
}

#[test]
fn an_owner_under_another_name_or_namespace_is_asked_for() {
    let mut other = item("owner", &[], false, &[]);
    other.target.namespace = Some("b".to_owned());
    let graph = graph(vec![other, item("child", &["owner"], false, &[])]);
    assert_eq!(graph.unknown_owners("child").len(), 1);
    assert_eq!(settle(&graph, "child", &["owner"]), ["delete child Background"]);
}

#[test]
fn foreground_deletion_waits_for_what_blocks_it() {
    let mut graph =
        graph(vec![item("owner", &[], true, &["foregroundDeletion"]), item("child", &["owner"], false, &[])]);
    assert_eq!(settle(&graph, "owner", &[]), ["delete child Background"]);
    assert_eq!(settle(&graph, "child", &[]), ["delete child Background"]);
    graph.upsert(item("child", &["owner"], true, &[]));
    assert!(settle(&graph, "owner", &[]).is_empty(), "still there");
    assert!(graph.remove("child").contains(&"owner".to_owned()));
    assert_eq!(settle(&graph, "owner", &[]), ["owner finalizers []"]);
}

#[test]
fn orphans_are_set_free_before_the_owner_goes() {
    let graph = graph(vec![item("owner", &[], true, &["orphan"]), item("child", &["owner"], false, &[])]);
    assert_eq!(settle(&graph, "owner", &[]), ["child owned by []", "owner finalizers []"]);
}

#[test]
fn a_circle_of_owners_is_found_and_broken() {
    let graph = graph(vec![item("a", &["b"], true, &["foregroundDeletion"]), item("b", &["a"], false, &[])]);
    assert_eq!(settle(&graph, "b", &[]), ["b owned by [\"a\"]", "delete b Foreground"]);
}

#[test]
fn suspects_are_what_has_missing_or_ending_owners() {
    let graph = graph(vec![
        item("child", &["gone"], false, &[]),
        item("owner", &[], false, &[]),
        item("kept", &["owner"], false, &[]),
    ]);
    assert_eq!(graph.suspects(), ["child"]);
}
