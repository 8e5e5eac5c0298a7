//! Requests over the data path: from a node's network, by a Service's address, to real containers.

use std::{process::Stdio, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::process::Command;
use xebec_chaos_core::history::{Action, Answer};

use super::{Stage, deployments::deployment, told};
use crate::{api::ApiClient, etcd::Failure, workloads::Client};

/// The Deployment's and the Service's name.
const NAME: &str = "web";
/// Backends.
const REPLICAS: u32 = 2;
/// Between requests.
const PAUSE: Duration = Duration::from_millis(200);
/// A request takes at most this long, as the client counts.
const ANSWER_SECONDS: &str = "5";
/// As the run counts: longer, so that the client is heard.
const ANSWER_MAX: Duration = Duration::from_secs(7);
/// What a backend runs.
const SERVE: &str = "mkdir -p /tmp/www && echo here > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";

/// Asks a Service of containers again and again, from where its kube-proxy is. Without containers there is no data path.
pub async fn run(mut client: Client<ApiClient>, stage: Arc<Stage>) {
    let Some(network) = stage.node_network.clone() else { return };
    let Some(address) = prepare(&mut client, &stage).await else { return };
    let service = format!("{}/{NAME}", stage.namespace);
    // What was never up cannot go down.
    while client.goes_on() && ask(&network, &address).await.is_err() {
        client.rest(PAUSE).await;
    }
    while client.goes_on() {
        let action = Action::Probe { service: service.clone() };
        client.perform_within(ANSWER_MAX, action, ask(&network, &address)).await;
        client.rest(PAUSE).await;
    }
}

/// Makes Deployment and Service, and waits for the backends; the Service's address.
async fn prepare(client: &mut Client<ApiClient>, stage: &Stage) -> Option<String> {
    let mut backends = deployment(NAME, &stage.image, REPLICAS);
    backends["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh", "-c", SERVE]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": 8080}]}});
    let mut address = String::new();
    for (resource, object) in [("deployments", backends), ("services", service)] {
        let api = client.at();
        let made = api.create(&stage.collection(resource), &object).await;
        let (_, object) = told(made).ok()?;
        address = object.pointer("/spec/clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
    }
    let object = stage.object("deployments", NAME);
    tokio::select! {
        () = stage.world.until(&object, |facts| facts.converged() && facts.generations.is_some_and(|(_, seen)| seen > 0)) => {}
        () = client.stop.cancelled() => return None,
    }
    Some(address)
}

async fn ask(network: &str, address: &str) -> Result<Answer, Failure> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{network}"));
    command.args(["busybox", "wget", "-q", "-T", ANSWER_SECONDS, "-O", "-", &format!("http://{address}/")]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| Failure::Unknown(error.to_string()))?;
    match output.status.success() {
        true => Ok(Answer::default()),
        false => Err(Failure::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
