//! The Node object: registered once, its status written when it changes and every few minutes, its heartbeat a Lease.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{
            ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec,
            NodeStatus, Taint,
        },
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference, Time},
};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use xebec_client::failure;
use xebec_node_core::eviction::Thresholds;

use crate::{
    machine::{self, Machine},
    runtime::Runtime,
};

/// An unchanged status is written this often all the same (upstream's `nodeStatusReportFrequency`).
const STATUS_REPORT_PERIOD: Duration = Duration::from_secs(300);
/// How often the node looks at itself, once ready and before.
const CHECK_PERIOD: Duration = Duration::from_secs(10);
const CHECK_PERIOD_UNREADY: Duration = Duration::from_millis(500);
/// Pause before a failed registration or heartbeat is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Most images a Node lists (upstream's `nodeStatusMaxImages`).
const IMAGES_MAX: usize = 50;
/// Namespace of heartbeats.
const LEASES: &str = "kube-node-lease";

/// What a Node is registered with.
#[derive(Clone)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Its resources.
    pub machine: Machine,
    /// Where the kubelet listens.
    pub port: u16,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// How long a heartbeat is good.
    pub lease_seconds: u32,
    /// When it counts as short of memory or disk.
    pub eviction: Thresholds,
}

/// Parses `key=value:effect`.
pub fn parse_taint(text: &str) -> Result<Taint, String> {
    let (rest, effect) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} is not key=value:effect"))?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!("{effect:?} is no effect of a taint"));
    }
    let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value.to_owned())));
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

/// Keeps the Node object and its heartbeat until `stop`.
pub async fn run(facts: NodeFacts, client: kube::Client, runtime: Arc<dyn Runtime>, stop: CancellationToken) {
    let keeper = Keeper { api: Api::all(client.clone()), facts, runtime };
    let work = async {
        keeper.register().await;
        tokio::join!(keeper.keep_status(), keeper.keep_lease(client));
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

struct Keeper {
    api: Api<Node>,
    facts: NodeFacts,
    runtime: Arc<dyn Runtime>,
}

impl Keeper {
    async fn register(&self) {
        let labels = [
            ("kubernetes.io/hostname", self.facts.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", machine::architecture()),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", machine::architecture()),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut node = Node {
            metadata: ObjectMeta {
                name: Some(self.facts.name.clone()),
                labels: Some(labels.into_iter().chain(self.facts.labels.iter().cloned()).collect()),
                ..Default::default()
            },
            spec: Some(NodeSpec {
                taints: Some(self.facts.taints.clone()).filter(|taints| !taints.is_empty()),
                ..Default::default()
            }),
            status: None,
        };
        loop {
            node.status = Some(self.status(&NodeStatus::default()).await);
            match self.api.create(&PostParams::default(), &node).await {
                Ok(_) => {
                    tracing::info!(node = self.facts.name, "node registered");
                    return;
                }
                Err(error) if failure::is_already_exists(&error) => {
                    let patch = json!({"metadata": {"labels": node.metadata.labels}});
                    match self.api.patch(&self.facts.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                        Ok(_) => return,
                        Err(error) => tracing::warn!(%error, "node labels not written, will try again"),
                    }
                }
                Err(error) => tracing::warn!(%error, "node not registered, will try again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn keep_status(&self) {
        let mut written = match self.api.get(&self.facts.name).await {
            Ok(node) => node.status.unwrap_or_default(),
            Err(_) => NodeStatus::default(),
        };
        let mut reported = None;
        loop {
            let status = self.status(&written).await;
            let ready =
                status.conditions.iter().flatten().any(|found| found.type_ == "Ready" && found.status == "True");
            let due = reported.is_none_or(|at: tokio::time::Instant| at.elapsed() >= STATUS_REPORT_PERIOD);
            if due || without_heartbeats(&status) != without_heartbeats(&written) {
                let patch = json!({"status": status});
                match self.api.patch_status(&self.facts.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                    Ok(_) => {
                        written = status;
                        reported = Some(tokio::time::Instant::now());
                    }
                    // Somebody deleted the Node: this agent still lives, so it comes back.
                    Err(error) if failure::is_not_found(&error) => self.register().await,
                    Err(error) => tracing::warn!(%error, "node status not written, will try again"),
                }
            }
            tokio::time::sleep(if ready { CHECK_PERIOD } else { CHECK_PERIOD_UNREADY }).await;
        }
    }

    async fn status(&self, old: &NodeStatus) -> NodeStatus {
        let facts = &self.facts;
        let version = self.runtime.version().await.unwrap_or_default();
        let not_ready = self.runtime.not_ready().await.unwrap_or_else(|error| Some(error.to_string()));
        let (memory, disk) = machine::pressure(&facts.data_dir, &facts.eviction);
        let ready = match &not_ready {
            None => (true, "KubeletReady", "kubelet is posting ready status".to_owned()),
            Some(reason) => (false, "KubeletNotReady", reason.clone()),
        };
        let word = |short: bool, yes: &'static str, no: &'static str| if short { yes } else { no };
        let conditions = [
            (
                "MemoryPressure",
                memory,
                word(memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
                word(memory, "kubelet has insufficient memory available", "kubelet has sufficient memory available")
                    .to_owned(),
            ),
            (
                "DiskPressure",
                disk,
                word(disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
                word(disk, "kubelet has disk pressure", "kubelet has no disk pressure").to_owned(),
            ),
            ("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available".to_owned()),
            ("Ready", ready.0, ready.1, ready.2),
        ];
        let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
        let conditions = conditions
            .into_iter()
            .map(|(type_, holds, reason, message)| condition(old, type_, holds, reason, message, &now))
            .collect();
        let images = self.runtime.images().await.unwrap_or_default();
        let images = images
            .into_iter()
            .take(IMAGES_MAX)
            .map(|image| ContainerImage { names: Some(image.names), size_bytes: i64::try_from(image.size_bytes).ok() })
            .collect();
        NodeStatus {
            addresses: Some(vec![
                NodeAddress { type_: "InternalIP".into(), address: facts.ip.to_string() },
                NodeAddress { type_: "Hostname".into(), address: facts.name.clone() },
            ]),
            capacity: Some(facts.machine.capacity.clone()),
            allocatable: Some(facts.machine.allocatable.clone()),
            conditions: Some(conditions),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(facts.port) }),
            }),
            images: Some(images),
            node_info: Some(machine::system_info(&facts.name, version)),
            ..Default::default()
        }
    }

    async fn keep_lease(&self, client: kube::Client) {
        let api = Api::<Lease>::namespaced(client, LEASES);
        let period = Duration::from_millis(u64::from(self.facts.lease_seconds) * 1000 / 4);
        let mut failing = false;
        loop {
            let outcome = self.renew(&api).await;
            match &outcome {
                Ok(()) if failing => tracing::info!(node = self.facts.name, "heartbeats reach the API server again"),
                Err(error) if !failing => tracing::warn!(node = self.facts.name, %error, "heartbeat not written"),
                _ => {}
            }
            failing = outcome.is_err();
            tokio::time::sleep(if failing { RETRY.min(period) } else { period }).await;
        }
    }

    async fn renew(&self, api: &Api<Lease>) -> Result<(), kube::Error> {
        let now = MicroTime(Timestamp::now());
        let patch = json!({"spec": {"renewTime": now, "holderIdentity": self.facts.name,
            "leaseDurationSeconds": self.facts.lease_seconds}});
        match api.patch(&self.facts.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if failure::is_not_found(&error) => {}
            outcome => return outcome.map(drop),
        }
        let node = self.api.get(&self.facts.name).await?;
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.facts.name.clone()),
                namespace: Some(LEASES.into()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: self.facts.name.clone(),
                    uid: node.metadata.uid.unwrap_or_default(),
                    ..Default::default()
                }]),
                ..Default::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.facts.name.clone()),
                lease_duration_seconds: i32::try_from(self.facts.lease_seconds).ok(),
                renew_time: Some(now),
                ..Default::default()
            }),
        };
        api.create(&PostParams::default(), &lease).await.map(drop)
    }
}

fn condition(old: &NodeStatus, type_: &str, holds: bool, reason: &str, message: String, now: &Time) -> NodeCondition {
    let status = if holds { "True" } else { "False" };
    let before = old.conditions.iter().flatten().find(|found| found.type_ == type_ && found.status == status);
    NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: before.and_then(|found| found.last_transition_time.clone()).or_else(|| Some(now.clone())),
    }
}

/// What counts as a change: not the heartbeat times, nor who else wrote to the status.
fn without_heartbeats(status: &NodeStatus) -> NodeStatus {
    let mut status = NodeStatus {
        volumes_attached: None,
        volumes_in_use: None,
        config: None,
        features: None,
        runtime_handlers: None,
        declared_features: None,
        ..status.clone()
    };
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_parsed() {
        let taint = parse_taint("a/b=c:NoSchedule").unwrap();
        assert_eq!(
            (taint.key.as_str(), taint.value.as_deref(), taint.effect.as_str()),
            ("a/b", Some("c"), "NoSchedule")
        );
        assert_eq!(parse_taint("k:NoExecute").unwrap().value, None);
        assert!(parse_taint("k=v").is_err() && parse_taint("k:Never").is_err());
    }
}
