//! Pods that two schedulers want to place.

use std::{sync::Arc, time::Duration};

use rand::{RngExt as _, seq::SliceRandom as _};
use serde_json::{Value, json};
use xebec_chaos_core::history::{Action, Answer, Event};

use super::{Stage, told};
use crate::{api::ApiClient, etcd::Failure, run::Recorder, workloads::Client};

/// Between pods.
const PAUSE: Duration = Duration::from_millis(300);
/// Schedulers that race for one pod.
const RIVALS: usize = 3;
/// A scheduler that does not exist, so that nobody else binds the pods.
const SCHEDULER: &str = "chaos-rivals";

/// Creates pods that no scheduler cares for, and binds each to several nodes at once: one may succeed.
pub async fn run(mut client: Client<ApiClient>, stage: Arc<Stage>) {
    for number in 0_u64.. {
        if !client.goes_on() || stage.nodes.len() < 2 {
            return;
        }
        let name = format!("b{}-{number}", client.index);
        race(&mut client, &stage, &name).await;
        client.rest(PAUSE).await;
    }
}

/// A pod that anybody may place.
pub(super) fn pod(name: &str, image: &str, scheduler: Option<&str>) -> Value {
    let container = json!({"name": "c", "image": image, "command": ["sleep", "86400"]});
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"chaos": "pod"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}});
    if let Some(scheduler) = scheduler {
        pod["spec"]["schedulerName"] = json!(scheduler);
    }
    pod
}

async fn race(client: &mut Client<ApiClient>, stage: &Stage, name: &str) {
    let (api, collection) = (client.at(), stage.collection("pods"));
    let pod = pod(name, &stage.image, Some(SCHEDULER));
    let action = Action::Create { object: stage.object("pods", name) };
    let work = async move { Ok(told(api.create(&collection, &pod).await)?.0) };
    let Some(uid) = client.perform(action, work).await.and_then(|answer| answer.uid) else { return };
    let mut nodes = stage.nodes.clone();
    nodes.shuffle(&mut client.rng);
    let mut rivals = tokio::task::JoinSet::new();
    for (number, node) in nodes.into_iter().cycle().take(RIVALS).enumerate() {
        let api = if number % 2 == 0 { client.at() } else { client.other() };
        let path = format!("{}/binding", stage.path("pods", name));
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        let action = Action::Bind { pod: format!("{}/{name}/{uid}", stage.namespace), node };
        let recorder = Arc::clone(&client.recorder);
        rivals.spawn(async move { bind(&recorder, &api, action, &path, &binding).await });
    }
    while rivals.join_next().await.is_some() {}
    // Some stay, to be restarted by nobody.
    if client.rng.random_range(0..4) > 0 {
        let (api, path) = (client.at(), stage.path("pods", name));
        let work = async move { told(api.delete(&path).await).map(|_| Answer::default()) };
        client.perform(Action::Remove { object: stage.object("pods", name) }, work).await;
    }
}

async fn bind(recorder: &Recorder, api: &ApiClient, op: Action, path: &str, binding: &Value) {
    let process = recorder.new_process();
    recorder.record(&Event::Invoke { time: recorder.now(), process, op });
    let outcome = told(api.create(path, binding).await);
    let time = recorder.now();
    recorder.record(&match outcome {
        Ok(_) => Event::Ok { time, process, result: Answer::default() },
        Err(Failure::Refused(error)) => Event::Fail { time, process, error },
        Err(Failure::Unknown(error)) => Event::Info { time, process, error },
    });
}
