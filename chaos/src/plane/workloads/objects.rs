//! Lives of objects.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use serde_json::{Value, json};
use xebec_chaos_core::history::{Action, Answer, Event};

use super::{Stage, told};
use crate::{
    api::{ApiClient, Outcome},
    workloads::Client,
};

/// Between a client's requests.
const PAUSE: Duration = Duration::from_millis(20);
/// The finalizer that some objects have.
const FINALIZER: &str = "chaos.xebec.io/hold";
/// Updates of one object at most.
const UPDATES_MAX: u32 = 4;
/// Objects that die with their owner.
const DEPENDENTS: u32 = 2;

/// One life after the other: created, read by somebody else, changed, and often deleted.
pub async fn run(mut client: Client<ApiClient>, stage: Arc<Stage>) {
    for number in 0_u64.. {
        if !client.goes_on() {
            return;
        }
        let name = format!("o{}-{number}", client.index);
        match client.rng.random_range(0..10) {
            0..6 => plain(&mut client, &stage, &name).await,
            6..8 => held(&mut client, &stage, &name).await,
            _ => family(&mut client, &stage, &name).await,
        }
        client.rest(PAUSE).await;
    }
}

fn object(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"round": "0"}})
}

/// Creates an object; what it has become, if that is known.
async fn create(client: &mut Client<ApiClient>, stage: &Stage, object: Value) -> Option<Answer> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let action = Action::Create { object: stage.object("configmaps", name) };
    let (api, collection) = (client.at(), stage.collection("configmaps"));
    let work = async move { Ok(told(api.create(&collection, &object).await)?.0) };
    client.perform(action, work).await
}

/// A consistent read at another server than the one that was just written through.
async fn look(client: &mut Client<ApiClient>, stage: &Stage, name: &str) {
    let (api, path) = (client.other(), stage.path("configmaps", name));
    let work = async move {
        match api.get(&path).await {
            Outcome::Refused(404, _) => Ok(Answer::default()),
            outcome => Ok(told(outcome)?.0),
        }
    };
    client.perform(Action::Get { object: stage.object("configmaps", name) }, work).await;
}

/// A merge patch; an update, unless `action` says otherwise.
async fn change(client: &mut Client<ApiClient>, stage: &Stage, name: &str, patch: Value, action: Action) -> bool {
    let (api, path) = (client.at(), stage.path("configmaps", name));
    let work = async move { Ok(told(api.patch(&path, &patch).await)?.0) };
    client.perform(action, work).await.is_some()
}

async fn update(client: &mut Client<ApiClient>, stage: &Stage, name: &str, round: u32) -> bool {
    let action = Action::Update { object: stage.object("configmaps", name), based_on: None };
    change(client, stage, name, json!({"data": {"round": round.to_string()}}), action).await
}

/// Deletes an object; `action` says what that means for it.
async fn delete(client: &mut Client<ApiClient>, stage: &Stage, name: &str, action: Action) -> bool {
    let (api, path) = (client.at(), stage.path("configmaps", name));
    let work = async move {
        match api.delete(&path).await {
            Outcome::Refused(404, _) => Ok(Answer::default()),
            outcome => {
                let (answer, object) = told(outcome)?;
                // A Status has no object's version.
                Ok(if object["kind"] == "Status" { Answer::default() } else { answer })
            }
        }
    };
    client.perform(action, work).await.is_some()
}

async fn plain(client: &mut Client<ApiClient>, stage: &Stage, name: &str) {
    let mut known = create(client, stage, object(name)).await.is_some();
    for round in 1..client.rng.random_range(1..=UPDATES_MAX) {
        known &= update(client, stage, name, round).await;
        look(client, stage, name).await;
    }
    if client.rng.random_range(0..3) == 0 {
        return;
    }
    let removal = Action::Remove { object: stage.object("configmaps", name) };
    known &= delete(client, stage, name, removal).await;
    look(client, stage, name).await;
    if known && client.rng.random_range(0..4) == 0 {
        create(client, stage, object(name)).await;
        look(client, stage, name).await;
    }
}

/// An object whose deletion waits for its finalizer.
async fn held(client: &mut Client<ApiClient>, stage: &Stage, name: &str) {
    let mut object = object(name);
    object["metadata"]["finalizers"] = json!([FINALIZER]);
    if create(client, stage, object).await.is_none() {
        return;
    }
    // Only marked: it must still be there.
    let marked = Action::Update { object: stage.object("configmaps", name), based_on: None };
    if !delete(client, stage, name, marked).await {
        return;
    }
    look(client, stage, name).await;
    if client.rng.random_range(0..3) > 0 {
        let action = Action::LetGo { object: stage.object("configmaps", name) };
        change(client, stage, name, json!({"metadata": {"finalizers": null}}), action).await;
    }
}

/// An owner and what must die with it.
async fn family(client: &mut Client<ApiClient>, stage: &Stage, name: &str) {
    let Some(owner) = create(client, stage, object(name)).await else { return };
    let dependents: Vec<_> = (0..DEPENDENTS).map(|number| format!("{name}-d{number}")).collect();
    for dependent in &dependents {
        let mut object = object(dependent);
        object["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner.uid}]);
        create(client, stage, object).await;
    }
    if client.rng.random_range(0..3) == 0 {
        return;
    }
    for dependent in &dependents {
        // From here on the garbage collector may remove it at any time.
        let (time, process) = (client.recorder.now(), client.recorder.new_process());
        let op = Action::Remove { object: stage.object("configmaps", dependent) };
        client.recorder.record(&Event::Invoke { time, process, op });
    }
    let removal = Action::Remove { object: stage.object("configmaps", name) };
    delete(client, stage, name, removal).await;
}
