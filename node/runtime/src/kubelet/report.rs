//! A pod's status on its way to the API server. It waits here while no master answers, so that a pod's worker never does.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xebec_node_core::pod;

/// First and longest pause between attempts to write.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Conditions that are the kubelet's to write.
const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

pub(super) fn is_own(condition: &str) -> bool {
    OWN_CONDITIONS.contains(&condition)
}

#[derive(Clone, Default)]
struct Wanted {
    status: Option<PodStatus>,
    delete: bool,
}

pub(super) struct Reporter {
    wanted: watch::Sender<Wanted>,
}

impl Reporter {
    pub(super) fn spawn(client: Option<kube::Client>, pod: &Pod, stop: CancellationToken) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        if let Some(client) = client {
            let writer = Writer {
                api: Api::namespaced(client, pod::namespace(pod)),
                name: pod::name(pod).to_owned(),
                uid: pod::uid(pod).to_owned(),
                written: pod.status.clone().unwrap_or_default(),
            };
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = writer.run(receiver) => {}
                }
            });
        }
        Self { wanted }
    }

    /// Has this status written, instead of any that still waits.
    pub(super) fn send(&self, status: PodStatus) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.status.as_ref() != Some(&status);
            wanted.status = Some(status);
            changed
        });
    }

    /// Has the object deleted after the last status is written; returns when the API server knows.
    pub(super) async fn delete(&self) {
        self.wanted.send_modify(|wanted| wanted.delete = true);
        self.wanted.closed().await;
    }
}

enum Outcome {
    Written,
    Gone,
    Failed(kube::Error),
}

struct Writer {
    api: Api<Pod>,
    name: String,
    uid: String,
    written: PodStatus,
}

impl Writer {
    async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        let mut pause = RETRY_FIRST;
        loop {
            let next = wanted.borrow_and_update().clone();
            match self.write(&next).await {
                Outcome::Written if next.delete => return,
                Outcome::Gone => return,
                Outcome::Written => {
                    pause = RETRY_FIRST;
                    if wanted.changed().await.is_err() {
                        return;
                    }
                }
                Outcome::Failed(error) => {
                    tracing::warn!(pod = self.name, %error, "pod status not written, will try again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn write(&mut self, wanted: &Wanted) -> Outcome {
        if let Some(status) = wanted.status.as_ref().filter(|status| **status != self.written) {
            let mut own = status.clone();
            // Conditions of others stay theirs: a strategic merge patch leaves out what it does not name.
            own.conditions.iter_mut().for_each(|list| list.retain(|condition| is_own(&condition.type_)));
            let patch = json!({"metadata": {"uid": self.uid}, "status": own});
            match self.api.patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(_) => self.written = status.clone(),
                Err(error) => return judge(error),
            }
        }
        if wanted.delete {
            let preconditions = Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None });
            let params = DeleteParams { grace_period_seconds: Some(0), preconditions, ..Default::default() };
            if let Err(error) = self.api.delete(&self.name, &params).await {
                return judge(error);
            }
        }
        Outcome::Written
    }
}

fn judge(error: kube::Error) -> Outcome {
    match &error {
        // 404: it is gone. 409 on a UID: another pod has the name.
        kube::Error::Api(status) if status.code == 404 || status.code == 409 => Outcome::Gone,
        _ => Outcome::Failed(error),
    }
}
