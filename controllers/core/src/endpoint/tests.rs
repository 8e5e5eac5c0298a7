use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::action::Action;

fn service(extra: Value) -> Arc<Service> {
    let mut body = json!({
        "metadata": { "name": "web", "namespace": "a", "uid": "s", "labels": { "team": "x" } },
        "spec": {
            "clusterIP": "10.96.0.5", "selector": { "app": "web" },
            "ports": [{ "name": "http", "port": 80, "targetPort": "http" }],
        },
    });
    for (key, value) in extra.as_object().unwrap() {
        body["spec"][key] = value.clone();
    }
    Arc::new(serde_json::from_value(body).unwrap())
}

fn pod(index: usize, ready: bool, terminating: bool, port: i32) -> Arc<Pod> {
    let mut body = json!({
        "metadata": { "name": format!("p{index:03}"), "namespace": "a", "uid": format!("u{index:03}"),
            "labels": { "app": "web" } },
        "spec": { "nodeName": "n1", "containers": [
            { "name": "main", "ports": [{ "name": "http", "containerPort": port }] },
        ] },
        "status": {
            "phase": "Running", "podIP": format!("10.0.{}.{}", index / 200, index % 200 + 1),
            "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
        },
    });
    if terminating {
        body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(serde_json::from_value(body).unwrap())
}

/// Applies the actions to a set of slices.
struct Slices {
    slices: BTreeMap<String, Arc<EndpointSlice>>,
    serial: usize,
}

impl Slices {
    fn run(&mut self, service: &Arc<Service>, pods: &[Arc<Pod>]) -> Vec<String> {
        let observed = Observed {
            service: service.clone(),
            pods: pods.to_vec(),
            slices: self.slices.values().cloned().collect(),
            nodes: BTreeMap::new(),
        };
        let actions = reconcile(&observed);
        let printed = actions.iter().map(|a| a.to_string().split(' ').next().unwrap().to_owned()).collect();
        for action in actions {
            match action {
                Action::Create { body, .. } => {
                    self.serial += 1;
                    let mut slice: EndpointSlice = serde_json::from_value(body).unwrap();
                    let name = format!("web-{}", self.serial);
                    slice.metadata.name = Some(name.clone());
                    self.slices.insert(name, Arc::new(slice));
                }
                Action::Update { target, body, .. } => {
                    self.slices.insert(target.name, Arc::new(serde_json::from_value(body).unwrap()));
                }
                Action::Delete { target, .. } => {
                    self.slices.remove(&target.name);
                }
                other => panic!("{other}"),
            }
        }
        printed
    }

    fn sizes(&self) -> Vec<usize> {
        self.slices.values().map(|slice| slice.endpoints.len()).collect()
    }
}

fn slices() -> Slices {
    Slices { slices: BTreeMap::new(), serial: 0 }
}

#[test]
fn slices_hold_a_hundred_and_change_as_little_as_possible() {
    let (service, mut world) = (service(json!({})), slices());
    let mut pods: Vec<_> = (0..250).map(|index| pod(index, true, false, 8080)).collect();
    assert_eq!(world.run(&service, &pods), ["create", "create", "create"]);
    assert_eq!(world.sizes(), [100, 100, 50]);
    assert!(world.run(&service, &pods).is_empty(), "nothing changed, nothing is written");
    pods.remove(3);
    assert_eq!(world.run(&service, &pods), ["update"]);
    pods.push(pod(300, true, false, 8080));
    assert_eq!(world.run(&service, &pods), ["update"], "the gap is filled");
    assert_eq!(world.sizes(), [100, 100, 50]);
    world.run(&service, &[]);
    assert_eq!(world.sizes(), [0], "one empty slice says that there is none");
}

#[test]
fn conditions_tell_ready_serving_and_terminating_apart() {
    let pods = [pod(0, true, false, 80), pod(1, false, false, 80), pod(2, true, true, 80)];
    let conditions = |service: &Arc<Service>| {
        let mut world = slices();
        world.run(service, &pods);
        let slice = world.slices.values().next().unwrap().clone();
        let read = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
            let c = endpoint.conditions.clone().unwrap();
            (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
        };
        slice.endpoints.iter().map(read).collect::<Vec<_>>()
    };
    let (t, f) = (true, false);
    assert_eq!(conditions(&service(json!({}))), [(t, t, f), (f, f, f), (f, t, t)]);
    let published = service(json!({ "publishNotReadyAddresses": true }));
    assert_eq!(conditions(&published), [(t, t, f), (t, f, f), (t, t, t)]);
}

#[test]
fn pods_that_name_the_port_differently_get_slices_of_their_own() {
    let mut world = slices();
    world.run(&service(json!({})), &[pod(0, true, false, 80), pod(1, true, false, 81)]);
    let ports: Vec<_> = world.slices.values().map(|s| s.ports.clone().unwrap()[0].port.unwrap()).collect();
    assert_eq!(ports, [80, 81]);
}

#[test]
fn services_without_a_selector_are_somebody_elses() {
    let mut world = slices();
    let pods = [pod(0, true, false, 80)];
    assert!(world.run(&service(json!({ "selector": null })), &pods).is_empty());
    assert!(world.run(&service(json!({ "type": "ExternalName" })), &pods).is_empty());
}

#[test]
fn endpoints_split_ready_from_not_ready_and_leave_out_terminating() {
    let pods = [pod(0, true, false, 80), pod(1, false, false, 80), pod(2, true, true, 80)];
    let observed = LegacyObserved { service: service(json!({})), pods: pods.to_vec(), endpoints: None };
    let actions = reconcile_legacy(&observed);
    let [Action::Create { body, .. }] = &actions[..] else { panic!("{actions:?}") };
    let subset = &body["subsets"][0];
    assert_eq!(subset["addresses"].as_array().unwrap().len(), 1);
    assert_eq!(subset["notReadyAddresses"][0]["ip"], "10.0.0.2");
    assert_eq!(subset["ports"], json!([{ "name": "http", "port": 80, "protocol": "TCP" }]));
    let written = Arc::new(serde_json::from_value(body.clone()).unwrap());
    let again = LegacyObserved { endpoints: Some(written), ..observed };
    assert!(reconcile_legacy(&again).is_empty());
}
