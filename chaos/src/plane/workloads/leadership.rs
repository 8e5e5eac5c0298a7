//! Leaders by the API server's own elections, whose writes carry the fence.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use http::Method;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use xebec_chaos_core::history::{Action, Answer};

use super::{Stage, told};
use crate::{
    api::{ApiClient, Lines},
    etcd::Failure,
    workloads::Client,
};

/// The election's name, and that of the ConfigMap that its leaders write.
const ELECTION: &str = "chaos";
/// A candidate that has not won gives up after this.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// The server speaks at least every 500 ms: one that is silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_millis(2_000);
/// Between a leader's writes.
const WRITE_PAUSE: Duration = Duration::from_millis(40);

/// Campaigns, writes, and now and then lets the leadership go without a word and writes on: that must be refused.
pub async fn run(mut client: Client<ApiClient>, stage: Arc<Stage>) {
    let identity = format!("chaos-{}", client.index);
    prepare(&client, &stage).await;
    while client.goes_on() {
        let (api, name) = (client.at(), identity.clone());
        let won: Arc<std::sync::Mutex<Option<(Lines, String)>>> = Arc::default();
        let (place, stop) = (Arc::clone(&won), client.stop.clone());
        let work = async move {
            let (lines, fence) = tokio::select! {
                elected = campaign(&api, &name) => elected?,
                () = stop.cancelled() => return Err(Failure::Refused("the run ends".to_owned())),
            };
            let token = token(&fence);
            *place.lock().expect("nobody panics with it") = Some((lines, fence));
            Ok(Answer { token, ..Answer::default() })
        };
        let elected = client.perform_within(WAIT_MAX, Action::Campaign { election: ELECTION.into() }, work).await;
        let Some(token) = elected.and_then(|answer| answer.token) else {
            client.rest(WRITE_PAUSE).await;
            continue;
        };
        let taken = won.lock().expect("nobody panics with it").take();
        if let Some((lines, fence)) = taken {
            lead(&mut client, &stage, lines, &fence, token).await;
        }
    }
}

async fn prepare(client: &Client<ApiClient>, stage: &Stage) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ELECTION}, "data": {}});
    while client.goes_on() {
        match told(client.at().create(&stage.collection("configmaps"), &object).await) {
            Ok(_) => return,
            Err(Failure::Refused(why)) if why.starts_with("409") => return,
            Err(_) => client.rest(WRITE_PAUSE).await,
        }
    }
}

/// Stands until it is elected; the stream that keeps the leadership, and its fence.
async fn campaign(api: &ApiClient, identity: &str) -> Result<(Lines, String), Failure> {
    let refused = |error: String| Failure::Refused(error);
    let path = format!("/xebec.io/v1/leaderships/{ELECTION}?identity={identity}");
    // A candidate that is never told of its election leads nothing: no campaign without an answer counts.
    let mut lines = api.stream(Method::POST, &path).await.map_err(|error| refused(error.to_string()))?;
    loop {
        let line = next(&mut lines).await.map_err(refused)?;
        if let ("leading", Some(fence)) = (line["state"].as_str().unwrap_or_default(), line["fence"].as_str()) {
            return Ok((lines, fence.to_owned()));
        }
    }
}

async fn next(lines: &mut Lines) -> Result<Value, String> {
    match tokio::time::timeout(SILENCE_MAX, lines.next()).await {
        Ok(Some(Ok(line))) => serde_json::from_str(&line).map_err(|error| error.to_string()),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(None) => Err("the stream ended".to_owned()),
        Err(_) => Err("the server is silent".to_owned()),
    }
}

/// Opaque to everybody else; the checker needs a number that rises from leader to leader.
fn token(fence: &str) -> Option<u64> {
    fence.rsplit_once('@')?.1.parse().ok()
}

async fn lead(client: &mut Client<ApiClient>, stage: &Stage, lines: Lines, fence: &str, token: u64) {
    let mut lines = Some(lines);
    let walks_away = client.rng.random_range(0..3) == 0;
    let stays = Instant::now() + Duration::from_millis(client.rng.random_range(300..4_000));
    // One that walks away, or was cut off, goes on for a while: somebody else leads by then.
    let until = stays + Duration::from_millis(client.rng.random_range(0..3_000));
    while client.goes_on() && Instant::now() < until {
        if Instant::now() >= stays && walks_away {
            lines = None;
        }
        let value = client.new_value();
        let (api, path, fence) = (client.at(), stage.path("configmaps", ELECTION), fence.to_owned());
        let change = json!({"data": {"value": value.to_string()}});
        let work = async move { Ok(told(api.patch_fenced(&path, &change, &fence).await)?.0) };
        client.perform(Action::Proclaim { election: ELECTION.into(), token, value }, work).await;
        if let Some(open) = &mut lines {
            // Keeps the stream flowing; what it says is no reason to stop here.
            drop(tokio::time::timeout(WRITE_PAUSE, open.next()).await);
        } else {
            client.rest(WRITE_PAUSE).await;
        }
    }
}
