//! Services that want numbers.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use serde_json::{Value, json};
use xebec_chaos_core::history::{Action, Answer, Event};

use super::{Stage, told};
use crate::{api::ApiClient, plane::facts::facts, workloads::Client};

/// Between a client's requests.
const PAUSE: Duration = Duration::from_millis(60);
/// Node ports that are asked for by number: few, so that clients meet.
const WANTED: std::ops::Range<u16> = 31_990..31_994;
/// Services that one client keeps at most.
const KEPT_MAX: usize = 6;

/// Creates Services with and without wishes, and deletes the oldest, so that numbers are free again.
pub async fn run(mut client: Client<ApiClient>, stage: Arc<Stage>) {
    let mut kept: Vec<Kept> = Vec::new();
    for number in 0_u64.. {
        if !client.goes_on() {
            return;
        }
        let name = format!("s{}-{number}", client.index);
        let port = (client.rng.random_range(0..3) == 0).then(|| client.rng.random_range(WANTED));
        kept.extend(create(&mut client, &stage, name, port).await);
        if kept.len() > KEPT_MAX || (port.is_some() && !kept.is_empty()) {
            let oldest = kept.remove(0);
            delete(&mut client, &stage, oldest).await;
        }
        client.rest(PAUSE).await;
    }
}

struct Kept {
    name: String,
    owner: String,
    claims: Vec<String>,
}

fn service(name: &str, port: Option<u16>) -> Value {
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "NodePort", "selector": {"nobody": "at-all"}, "ports": [{"port": 80}]}});
    if let Some(port) = port {
        service["spec"]["ports"][0]["nodePort"] = json!(port);
    }
    service
}

async fn create(client: &mut Client<ApiClient>, stage: &Stage, name: String, port: Option<u16>) -> Option<Kept> {
    let (api, collection, object) = (client.at(), stage.collection("services"), service(&name, port));
    let found = Arc::new(std::sync::Mutex::new(Vec::new()));
    let place = Arc::clone(&found);
    let work = async move {
        let (answer, object) = told(api.create(&collection, &object).await)?;
        *place.lock().expect("nobody panics with it") = facts(&object).claims;
        Ok(answer)
    };
    let begun = client.recorder.now();
    let uid = client.perform(Action::Create { object: stage.object("services", &name) }, work).await?.uid?;
    let claims = std::mem::take(&mut *found.lock().expect("nobody panics with it"));
    let owner = format!("{}/{name}/{uid}", stage.namespace);
    let ended = client.recorder.now();
    for resource in &claims {
        // Known only now, and true since some time in between.
        let process = client.recorder.new_process();
        let op = Action::Claim { resource: resource.clone(), owner: owner.clone() };
        client.recorder.record(&Event::Invoke { time: begun, process, op });
        client.recorder.record(&Event::Ok { time: ended, process, result: Answer::default() });
    }
    Some(Kept { name, owner, claims })
}

async fn delete(client: &mut Client<ApiClient>, stage: &Stage, kept: Kept) {
    for resource in kept.claims {
        // Free at some time from here on.
        let (time, process) = (client.recorder.now(), client.recorder.new_process());
        let op = Action::Unclaim { resource, owner: kept.owner.clone() };
        client.recorder.record(&Event::Invoke { time, process, op });
    }
    let (api, path) = (client.at(), stage.path("services", &kept.name));
    let work = async move { told(api.delete(&path).await).map(|_| Answer::default()) };
    client.perform(Action::Remove { object: stage.object("services", &kept.name) }, work).await;
}
