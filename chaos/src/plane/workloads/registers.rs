//! ConfigMaps as registers.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use serde_json::{Value, json};
use xebec_chaos_core::history::{Action, Answer};

use super::{Stage, told};
use crate::{
    api::{ApiClient, Outcome},
    etcd::Failure,
    workloads::Client,
};

/// Registers at a time: few, so that clients meet.
const KEYS: u32 = 3;
/// Between a client's requests.
const PAUSE: Duration = Duration::from_millis(25);
/// Nanoseconds after which the clients turn to new registers, so that a checker's search stays short.
const EPOCH: u64 = 20_000_000_000;

/// Reads, writes, compare-and-sets and deletions of few registers.
pub async fn run(mut client: Client<ApiClient>, stage: Arc<Stage>) {
    while client.goes_on() {
        let key = format!("r{}-{}", client.recorder.now() / EPOCH, client.rng.random_range(0..KEYS));
        let (api, path) = (client.at(), stage.path("configmaps", &key));
        match client.rng.random_range(0..10) {
            0..4 => {
                let work = async move { Ok(Answer { value: read(&api, &path).await?.0, ..Answer::default() }) };
                client.perform(Action::Read { key }, work).await;
            }
            4..7 => {
                let value = client.new_value();
                let collection = stage.collection("configmaps");
                let object = register(&key, value, None);
                client.perform(Action::Write { key, value }, write(api, collection, path, object)).await;
            }
            7..9 => swap(&mut client, key, api, path).await,
            _ => {
                let work = async move {
                    match api.delete(&path).await {
                        Outcome::Refused(404, _) => Ok(Answer::default()),
                        outcome => told(outcome).map(|_| Answer::default()),
                    }
                };
                client.perform(Action::Delete { key }, work).await;
            }
        }
        client.rest(PAUSE).await;
    }
}

fn register(name: &str, value: i64, version: Option<&str>) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"value": value.to_string()}});
    if let Some(version) = version {
        object["metadata"]["resourceVersion"] = json!(version);
    }
    object
}

/// A register's value and the resourceVersion it has; `None` if there is no such object.
async fn read(api: &ApiClient, path: &str) -> Result<(Option<i64>, String), Failure> {
    match api.get(path).await {
        Outcome::Refused(404, _) => Ok((None, String::new())),
        outcome => {
            let (_, object) = told(outcome)?;
            let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
            Ok((text("/data/value").parse().ok(), text("/metadata/resourceVersion").to_owned()))
        }
    }
}

async fn write(api: ApiClient, collection: String, path: String, object: Value) -> Result<Answer, Failure> {
    match api.replace(&path, &object).await {
        // Nothing there to replace, and nothing done.
        Outcome::Refused(404, _) => Ok(told(api.create(&collection, &object).await)?.0),
        outcome => Ok(told(outcome)?.0),
    }
}

async fn swap(client: &mut Client<ApiClient>, key: String, api: ApiClient, path: String) {
    let Ok((Some(from), version)) = read(&api, &path).await else { return };
    let to = client.new_value();
    let object = register(&key, to, Some(&version));
    let work = async move {
        let (answer, _) = told(api.replace(&path, &object).await)?;
        Ok(Answer { swapped: Some(true), ..answer })
    };
    client.perform(Action::Cas { key, from: Some(from), to }, work).await;
}
