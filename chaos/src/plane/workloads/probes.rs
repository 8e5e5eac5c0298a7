//! How long the control loops take: a pod to be placed and to run, a Deployment's change to be seen by its controller.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use xebec_chaos_core::history::{Action, Answer, Event, Facts};

use super::{Stage, bindings::pod, deployments::deployment, message, told};
use crate::{
    api::{ApiClient, Outcome},
    run::Recorder,
    workloads::Client,
};

/// Between two things to do: the resolution of the figures.
const PERIOD: Duration = Duration::from_millis(250);
/// Pods and changes that are awaited at the same time; more are not begun.
const AWAITED_MAX: usize = 60;

/// One client gives the scheduler something to do, the other the controllers.
pub async fn run(client: Client<ApiClient>, stage: Arc<Stage>) {
    if client.index == 0 { schedule(client, stage).await } else { reconcile(client, stage).await }
}

/// Records how long something takes; whether it happened before the run's end.
async fn wait(recorder: &Recorder, stage: &Stage, task: &str, object: &str, holds: impl Fn(&Facts) -> bool) -> bool {
    let process = recorder.new_process();
    let op = Action::Await { task: task.to_owned(), object: object.to_owned() };
    recorder.record(&Event::Invoke { time: recorder.now(), process, op });
    let done = tokio::select! {
        () = stage.world.until(object, holds) => true,
        () = stage.deadline.cancelled() => false,
    };
    let time = recorder.now();
    recorder.record(&match done {
        true => Event::Ok { time, process, result: Answer::default() },
        false => Event::Fail { time, process, error: "not done when the run ended".to_owned() },
    });
    done
}

async fn schedule(mut client: Client<ApiClient>, stage: Arc<Stage>) {
    let mut awaited = JoinSet::new();
    for number in 0_u64.. {
        client.rest(PERIOD).await;
        while awaited.try_join_next().is_some() {}
        if !client.goes_on() {
            break;
        }
        if awaited.len() >= AWAITED_MAX {
            continue;
        }
        let name = format!("p{number}");
        let (api, collection) = (client.at(), stage.collection("pods"));
        let body = pod(&name, &stage.image, None);
        let object = stage.object("pods", &name);
        let work = async move { Ok(told(api.create(&collection, &body).await)?.0) };
        if client.perform(Action::Create { object: object.clone() }, work).await.is_none() {
            continue;
        }
        let (stage, recorder, api) = (Arc::clone(&stage), Arc::clone(&client.recorder), client.at());
        awaited.spawn(async move {
            let placed = |facts: &Facts| !facts.node.is_empty();
            let runs = |facts: &Facts| facts.phase == "Running";
            if wait(&recorder, &stage, "scheduled", &object, placed).await {
                wait(&recorder, &stage, "running", &object, runs).await;
            }
            remove(&recorder, &stage, &api, &name, object).await;
        });
    }
    while awaited.join_next().await.is_some() {}
}

/// Removes a pod in the end, until somebody takes the request.
async fn remove(recorder: &Recorder, stage: &Stage, api: &ApiClient, name: &str, object: String) {
    let process = recorder.new_process();
    recorder.record(&Event::Invoke { time: recorder.now(), process, op: Action::Remove { object } });
    let refusal = loop {
        match api.delete(&stage.path("pods", name)).await {
            Outcome::Unknown(_) | Outcome::Refused(0 | 429, _) => tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stage.deadline.cancelled() => return,
            },
            // Gone already: an earlier request was heard.
            Outcome::Done(_) | Outcome::Refused(404, _) => break None,
            Outcome::Refused(code, status) => break Some(format!("{code} {}", message(&status))),
        }
    };
    let time = recorder.now();
    recorder.record(&match refusal {
        None => Event::Ok { time, process, result: Answer::default() },
        Some(error) => Event::Fail { time, process, error },
    });
}

async fn reconcile(mut client: Client<ApiClient>, stage: Arc<Stage>) {
    let name = "probe";
    let object = stage.object("deployments", name);
    let mut created = false;
    let mut awaited = JoinSet::new();
    for number in 0_u64.. {
        client.rest(PERIOD).await;
        while awaited.try_join_next().is_some() {}
        if !client.goes_on() {
            break;
        }
        if awaited.len() >= AWAITED_MAX {
            continue;
        }
        let (api, collection, path) = (client.at(), stage.collection("deployments"), stage.path("deployments", name));
        let generation = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let place = Arc::clone(&generation);
        let (body, change) =
            (deployment(name, &stage.image, 1), json!({"spec": {"progressDeadlineSeconds": 600 + number % 2}}));
        let action = match created {
            true => Action::Update { object: object.clone(), based_on: None },
            false => Action::Create { object: object.clone() },
        };
        let work = async move {
            let outcome = if created { api.patch(&path, &change).await } else { api.create(&collection, &body).await };
            let (answer, object) = told(outcome)?;
            let made = object.pointer("/metadata/generation").and_then(Value::as_u64).unwrap_or(0);
            place.store(made, std::sync::atomic::Ordering::Relaxed);
            Ok(answer)
        };
        if client.perform(action, work).await.is_none() {
            // Perhaps it was made after all.
            created |= stage.world.object(&object).is_some();
            continue;
        }
        created = true;
        let wanted = generation.load(std::sync::atomic::Ordering::Relaxed);
        let (stage, recorder, object) = (Arc::clone(&stage), Arc::clone(&client.recorder), object.clone());
        awaited.spawn(async move {
            let seen = |facts: &Facts| facts.generations.is_some_and(|(_, observed)| observed >= wanted);
            wait(&recorder, &stage, "reconciled", &object, seen).await;
        });
    }
    while awaited.join_next().await.is_some() {}
}
