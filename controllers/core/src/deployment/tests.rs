use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::replicaset::{self, Replicating};

/// A small cluster in which the two reconcilers run against each other in any order.
struct World {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    pods: BTreeMap<String, Pod>,
    serial: u64,
    now: Timestamp,
    events: Vec<String>,
}

impl World {
    fn new(replicas: i32, strategy: serde_json::Value) -> Self {
        let deployment = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "a", "uid": "d", "generation": 1 },
            "spec": {
                "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
                "strategy": strategy, "revisionHistoryLimit": 2, "progressDeadlineSeconds": 600,
                "template": template("one"),
            },
        }))
        .unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let (sets, pods) = (BTreeMap::new(), BTreeMap::new());
        Self { deployment, sets, pods, serial: 0, now, events: Vec::new() }
    }

    fn change(&mut self, change: impl FnOnce(&mut DeploymentSpec)) {
        change(self.deployment.spec.as_mut().unwrap());
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn roll_out(&mut self, image: &str) {
        let template = serde_json::from_value(template(image)).unwrap();
        self.change(|spec| spec.template = template);
    }

    fn step_deployment(&mut self) -> usize {
        let observed = Observed {
            deployment: Arc::new(self.deployment.clone()),
            replica_sets: self.sets.values().cloned().map(Arc::new).collect(),
            pods: self.pods.values().cloned().map(Arc::new).collect(),
            failure: None,
            now: self.now,
        };
        self.carry_out(reconcile(&observed))
    }

    fn step_set(&mut self, name: &str) -> usize {
        let Some(set) = self.sets.get(name) else { return 0 };
        let observed = replicaset::Observed {
            owner: Arc::new(set.clone()),
            pods: self.pods.values().cloned().map(Arc::new).collect(),
            related: Vec::new(),
            failure: None,
            now: self.now,
        };
        self.carry_out(replicaset::reconcile(&observed))
    }

    fn make_ready(&mut self, which: usize) -> usize {
        let waiting: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| !pods::is_ready(pod) && !meta::is_deleting(*pod))
            .map(|(name, _)| name.clone())
            .collect();
        if waiting.is_empty() {
            return 0;
        }
        let pod = self.pods.get_mut(&waiting[which % waiting.len()]).unwrap();
        let status = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
        pod.status = Some(serde_json::from_value(status).unwrap());
        1
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> usize {
        let mut done = 0;
        for action in actions {
            self.serial += 1;
            done += 1;
            match action {
                Action::Create { target, body } if target.resource.plural == "replicasets" => {
                    let mut set: ReplicaSet = serde_json::from_value(body).unwrap();
                    set.metadata.uid = Some(format!("rs-{}", self.serial));
                    set.metadata.generation = Some(1);
                    let at = Timestamp::from_second(self.serial.cast_signed()).unwrap();
                    set.metadata.creation_timestamp = Some(meta::wire_time(at));
                    assert!(self.sets.insert(target.name, set).is_none(), "created twice");
                }
                Action::Create { body, .. } => {
                    let mut pod: Pod = serde_json::from_value(body).unwrap();
                    let name = format!("pod-{}", self.serial);
                    pod.metadata.name = Some(name.clone());
                    pod.metadata.uid = Some(name.clone());
                    self.pods.insert(name, pod);
                }
                Action::Update { target, subresource, body } => match (&*target.resource.plural, subresource) {
                    ("replicasets", None) => {
                        let mut set: ReplicaSet = serde_json::from_value(body).unwrap();
                        let old = &self.sets[&target.name];
                        set.status = old.status.clone();
                        if set.spec != old.spec {
                            set.metadata.generation = old.metadata.generation.map(|g| g + 1);
                        }
                        self.sets.insert(target.name, set);
                    }
                    ("replicasets", Some("status")) => {
                        let set: ReplicaSet = serde_json::from_value(body).unwrap();
                        let status: Option<ReplicaSetStatus> = set.status;
                        self.sets.get_mut(&target.name).unwrap().status = status;
                    }
                    ("deployments", Some("status")) => {
                        let deployment: Deployment = serde_json::from_value(body).unwrap();
                        self.deployment.status = deployment.status;
                    }
                    other => panic!("{other:?}"),
                },
                Action::Patch { target, body, .. } => {
                    assert_eq!(target.resource.plural, "deployments");
                    let revision = body["metadata"]["annotations"][REVISION].as_str().unwrap();
                    let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                    annotations.insert(REVISION.to_owned(), revision.to_owned());
                }
                Action::Delete { target, .. } if target.resource.plural == "pods" => {
                    self.pods.remove(&target.name);
                }
                Action::Delete { target, .. } => {
                    self.sets.remove(&target.name);
                }
                Action::Event { message, .. } => {
                    self.events.push(message);
                    done -= 1;
                }
                Action::Wake { .. } => done -= 1,
                other => panic!("{other}"),
            }
        }
        done
    }

    fn step(&mut self, choice: usize) -> usize {
        let names: Vec<String> = self.sets.keys().cloned().collect();
        match choice % 3 {
            0 => self.step_deployment(),
            1 if !names.is_empty() => self.step_set(&names[choice / 3 % names.len()]),
            _ => self.make_ready(choice / 3),
        }
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut done = self.step_deployment();
            for name in self.sets.keys().cloned().collect::<Vec<_>>() {
                done += self.step_set(&name);
            }
            done += self.make_ready(0);
            if done == 0 {
                return;
            }
        }
        panic!("does not converge: {:?}", self.sets);
    }

    fn available(&self) -> i32 {
        i32::try_from(self.pods.values().filter(|pod| pods::is_ready(pod)).count()).unwrap()
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.values().map(Replicating::replicas).filter(|n| *n > 0).collect()
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let status = self.deployment.status.as_ref().unwrap();
        let conditions = status.conditions.as_ref().unwrap();
        let condition = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (condition.status.clone(), condition.reason.clone().unwrap())
    }
}

use k8s_openapi::api::apps::v1::DeploymentSpec;

fn template(image: &str) -> serde_json::Value {
    json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "main", "image": image }] },
    })
}

fn rolling(surge: impl serde::Serialize, unavailable: impl serde::Serialize) -> serde_json::Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
}

#[test]
fn a_deployment_comes_up_and_says_so() {
    let mut world = World::new(3, rolling("25%", "25%"));
    world.settle();
    assert_eq!((world.available(), world.sizes()), (3, vec![3]));
    assert_eq!(world.condition("Available"), ("True".into(), "MinimumReplicasAvailable".into()));
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(meta::annotation(&world.deployment, REVISION), Some("1"));
    let name = world.sets.keys().next().unwrap().clone();
    assert_eq!(world.events, [format!("Scaled up replica set {name} from 0 to 3")]);
    let status = world.deployment.status.clone().unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.updated_replicas, Some(3));
}

#[test]
fn rolling_back_reuses_the_old_set_under_a_new_revision() {
    let mut world = World::new(2, rolling(1, 0));
    world.settle();
    for image in ["two", "one"] {
        world.roll_out(image);
        world.settle();
    }
    assert_eq!(world.sets.len(), 2);
    assert_eq!(meta::annotation(&world.deployment, REVISION), Some("3"));
    let current = world.sets.values().find(|set| set.replicas() == 2).unwrap();
    assert_eq!(meta::annotation(current, "deployment.kubernetes.io/revision-history"), Some("1"));
    assert_eq!(meta::annotation(current, REVISION), Some("3"));
}

#[test]
fn history_is_kept_to_its_limit() {
    let mut world = World::new(1, rolling(1, 0));
    for image in ["a", "b", "c", "d", "e"] {
        world.roll_out(image);
        world.settle();
    }
    assert_eq!(world.sets.len(), 3, "the present one and two of the past");
    assert_eq!(meta::annotation(&world.deployment, REVISION), Some("5"));
}

#[test]
fn recreate_never_mixes_two_templates() {
    let mut world = World::new(3, json!({ "type": "Recreate" }));
    world.settle();
    world.roll_out("two");
    for choice in 0..200 {
        world.step(choice);
        let images: std::collections::BTreeSet<_> =
            world.pods.values().map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone()).collect();
        assert!(images.len() <= 1, "{images:?}");
    }
    world.settle();
    assert_eq!((world.available(), world.sets.len()), (3, 2));
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(2, rolling(1, 0));
    world.settle();
    world.change(|spec| spec.paused = Some(true));
    world.roll_out("two");
    world.change(|spec| spec.replicas = Some(4));
    world.settle();
    assert_eq!((world.available(), world.sets.len()), (4, 1));
    assert_eq!(world.condition("Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
    world.change(|spec| spec.paused = None);
    world.settle();
    assert_eq!((world.available(), world.sets.len()), (4, 2));
}

#[test]
fn a_rollout_that_stands_still_is_reported() {
    let mut world = World::new(1, rolling(1, 0));
    world.settle();
    world.roll_out("broken");
    for choice in [0, 1, 4, 0, 1, 4, 0] {
        world.step(choice);
    }
    world.now = "2026-01-01T01:00:00Z".parse().unwrap();
    world.step_deployment();
    assert_eq!(world.condition("Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));
    assert_eq!(world.available(), 1, "the old pod still serves");
}

#[test]
fn scaling_in_a_rollout_keeps_the_proportion() {
    let mut world = World::new(10, rolling(3, 2));
    world.settle();
    world.roll_out("two");
    for choice in [0, 1, 4, 0, 1, 4, 0] {
        world.step(choice);
    }
    assert_eq!(world.sizes().iter().sum::<i32>(), 13);
    world.change(|spec| spec.replicas = Some(20));
    world.step_deployment();
    let mut sizes = world.sizes();
    sizes.sort_unstable();
    assert_eq!(sizes, [9, 14], "5 and 8 of 13 became 9 and 14 of 23");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_rolling_update_stays_within_its_bounds(
        replicas in 1..8_i32,
        surge in 0..4_i32,
        unavailable in 0..4_i32,
        choices in proptest::collection::vec(0..64_usize, 0..120),
    ) {
        let strategy = json!({ "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } });
        let mut world = World::new(replicas, strategy);
        world.settle();
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) };
        for (index, choice) in choices.into_iter().enumerate() {
            if index % 40 == 0 {
                world.roll_out(&format!("image-{index}"));
            }
            world.step(choice);
            prop_assert!(world.available() >= replicas - unavailable, "{} available", world.available());
            prop_assert!(world.sizes().iter().sum::<i32>() <= replicas + surge, "{:?}", world.sizes());
        }
        world.settle();
        prop_assert_eq!(world.sizes(), vec![replicas]);
        prop_assert_eq!(world.available(), replicas);
    }
}
