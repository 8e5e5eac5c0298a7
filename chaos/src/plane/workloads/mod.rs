//! Workloads on the control plane: ordinary clients of the API. A new one is a file with a function over a [`Client`] and a
//! [`Stage`], and a row in [`PLANE_WORKLOADS`].

mod bindings;
mod data_path;
mod deployments;
mod leadership;
mod objects;
mod probes;
mod registers;
mod services;

use std::{pin::Pin, sync::Arc};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use xebec_chaos_core::history::Answer;

use super::{Kind, World, facts::revision};
use crate::{
    api::{ApiClient, Outcome},
    etcd::Failure,
    workloads::Client,
};

/// What all clients of a run share.
#[derive(Debug)]
pub struct Stage {
    /// The namespace of the run's objects.
    pub namespace: String,
    /// What the informers hold.
    pub world: Arc<World>,
    /// Nodes that pods can be bound to.
    pub nodes: Vec<String>,
    /// An image that every node has; hollow nodes take any.
    pub image: String,
    /// The network namespace of a node whose Services can be reached, if its containers are real.
    pub node_network: Option<String>,
    /// Cancelled when whatever is still awaited counts as not done.
    pub deadline: CancellationToken,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A kind of workload.
pub struct PlaneWorkload {
    /// As in `--workload`.
    pub name: &'static str,
    /// In one line.
    pub about: &'static str,
    /// Clients at the same time.
    pub clients: u32,
    /// What each does.
    pub work: fn(Client<ApiClient>, Arc<Stage>) -> Work,
}

/// Every workload there is.
pub const PLANE_WORKLOADS: [PlaneWorkload; 8] = [
    PlaneWorkload {
        name: "api-register",
        about: "ConfigMaps as registers: reads, writes, compare-and-sets by resourceVersion",
        clients: 5,
        work: |client, stage| Box::pin(registers::run(client, stage)),
    },
    PlaneWorkload {
        name: "objects",
        about: "objects that come, change and go, with finalizers and owners",
        clients: 4,
        work: |client, stage| Box::pin(objects::run(client, stage)),
    },
    PlaneWorkload {
        name: "leadership",
        about: "leaders with fenced writes, who go on when they are deposed",
        clients: 3,
        work: |client, stage| Box::pin(leadership::run(client, stage)),
    },
    PlaneWorkload {
        name: "bindings",
        about: "schedulers that race to bind the same pod",
        clients: 2,
        work: |client, stage| Box::pin(bindings::run(client, stage)),
    },
    PlaneWorkload {
        name: "services",
        about: "Services that race for addresses and node ports",
        clients: 3,
        work: |client, stage| Box::pin(services::run(client, stage)),
    },
    PlaneWorkload {
        name: "deployments",
        about: "Deployments that are scaled and replaced",
        clients: 2,
        work: |client, stage| Box::pin(deployments::run(client, stage)),
    },
    PlaneWorkload {
        name: "data-path",
        about: "requests to a Service of real containers, from a node",
        clients: 1,
        work: |client, stage| Box::pin(data_path::run(client, stage)),
    },
    PlaneWorkload {
        name: "loops",
        about: "how long scheduler and controllers take to do the next thing",
        clients: 2,
        work: |client, stage| Box::pin(probes::run(client, stage)),
    },
];

/// The workload of a name.
pub fn find(name: &str) -> Option<&'static PlaneWorkload> {
    PLANE_WORKLOADS.iter().find(|workload| workload.name == name)
}

impl Stage {
    /// The path of a collection in the run's namespace.
    fn collection(&self, resource: &str) -> String {
        Kind::of(resource).collection(&self.namespace)
    }

    /// An object's path.
    fn path(&self, resource: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(resource))
    }

    /// An object's name in the history.
    fn object(&self, resource: &str, name: &str) -> String {
        format!("{}{name}", Kind::of(resource).prefix(&self.namespace))
    }
}

/// What a client is told, in the words of the history.
fn told(outcome: Outcome) -> Result<(Answer, Value), Failure> {
    match outcome {
        Outcome::Done(object) => {
            let uid = object.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
            Ok((Answer { revision: revision(&object), uid, ..Answer::default() }, object))
        }
        Outcome::Refused(code, status) => Err(Failure::Refused(format!("{code} {}", message(&status)))),
        Outcome::Unknown(why) => Err(Failure::Unknown(why)),
    }
}

fn message(status: &Value) -> &str {
    status["reason"].as_str().or(status["message"].as_str()).unwrap_or_default()
}
