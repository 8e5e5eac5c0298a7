//! Deployments.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use serde_json::{Value, json};
use xebec_chaos_core::history::{Action, Answer};

use super::{Stage, told};
use crate::{api::ApiClient, workloads::Client};

/// Between changes of one client's Deployments.
const PAUSE: Duration = Duration::from_millis(1_500);
/// Deployments that a client keeps.
const KEPT: u32 = 2;
/// Pods of one Deployment at most.
const REPLICAS_MAX: u32 = 4;
/// Seconds that a pod stays on a node that is lost; upstream's default is 300.
const TOLERATION_SECONDS: u32 = 2;

/// Creates Deployments, scales them and rolls them over; now and then one goes and comes back.
pub async fn run(mut client: Client<ApiClient>, stage: Arc<Stage>) {
    let mut round = 0_u64;
    let mut there = vec![None; KEPT as usize];
    while client.goes_on() {
        round += 1;
        let slot = client.rng.random_range(0..KEPT) as usize;
        match there[slot].clone() {
            None => {
                let name = format!("d{}-{slot}-{round}", client.index);
                if create(&mut client, &stage, &name).await {
                    there[slot] = Some(name);
                }
            }
            Some(name) if client.rng.random_range(0..6) == 0 => {
                let (api, path) = (client.at(), stage.path("deployments", &name));
                let work = async move { told(api.delete(&path).await).map(|_| Answer::default()) };
                if client.perform(Action::Remove { object: stage.object("deployments", &name) }, work).await.is_some() {
                    there[slot] = None;
                }
            }
            Some(name) => {
                let replicas = client.rng.random_range(1..=REPLICAS_MAX);
                let mut change = json!({"spec": {"replicas": replicas}});
                if client.rng.random_range(0..4) == 0 {
                    change["spec"]["template"] = json!({"metadata": {"annotations": {"round": round.to_string()}}});
                }
                let (api, path) = (client.at(), stage.path("deployments", &name));
                let work = async move { Ok(told(api.patch(&path, &change).await)?.0) };
                let action = Action::Update { object: stage.object("deployments", &name), based_on: None };
                client.perform(action, work).await;
            }
        }
        client.rest(PAUSE).await;
    }
}

/// Tolerates a lost node for a short time only.
fn tolerations() -> Value {
    let toleration = |key: &str| {
        json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": TOLERATION_SECONDS})
    };
    json!([toleration("not-ready"), toleration("unreachable")])
}

/// A Deployment of pods that sleep.
pub(super) fn deployment(name: &str, image: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
    "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 0, "tolerations": tolerations(),
                "containers": [{"name": "c", "image": image, "command": ["sleep", "86400"]}]}}}})
}

async fn create(client: &mut Client<ApiClient>, stage: &Stage, name: &str) -> bool {
    let replicas = client.rng.random_range(1..=REPLICAS_MAX);
    let (api, collection) = (client.at(), stage.collection("deployments"));
    let object = deployment(name, &stage.image, replicas);
    let work = async move { Ok(told(api.create(&collection, &object).await)?.0) };
    client.perform(Action::Create { object: stage.object("deployments", name) }, work).await.is_some()
}
