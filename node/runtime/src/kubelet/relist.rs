//! The change source: containerd 1.6 has no CRI events, so all sandboxes and containers are listed about once a second
//! (two cheap calls), and workers whose pods look different are woken.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Kubelet, PodUpdate};
use crate::runtime::{Fingerprint, PodRef};

/// Between relists while pods exist, and while none does.
const PERIOD: Duration = Duration::from_millis(1_000);
const PERIOD_IDLE: Duration = Duration::from_secs(10);

pub(super) async fn run(kubelet: Arc<Kubelet>, known: impl Fn(&str) -> Option<bool> + Send) {
    let mut before: HashMap<String, Fingerprint> = HashMap::new();
    let mut first = true;
    loop {
        let idle = kubelet.workers.lock().is_empty() && before.is_empty() && !first;
        tokio::select! {
            () = kubelet.stop.cancelled() => return,
            () = tokio::time::sleep(if first { Duration::ZERO } else if idle { PERIOD_IDLE } else { PERIOD }) => {}
        }
        let found = match kubelet.parts.runtime.relist().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the container runtime cannot be listed");
                continue;
            }
        };
        first = false;
        let found: HashMap<String, Fingerprint> = found.into_iter().map(|pod| (pod.pod.uid.clone(), pod)).collect();
        for (uid, fingerprint) in &found {
            let changed = before.get(uid) != Some(fingerprint);
            if changed && kubelet.wake(uid) {
                continue;
            }
            if !kubelet.workers.lock().contains_key(uid) && known(uid) == Some(false) {
                kubelet.adopt(&fingerprint.pod);
            }
        }
        for uid in before.keys().filter(|uid| !found.contains_key(*uid)) {
            kubelet.wake(uid);
        }
        before = found;
    }
}

impl Kubelet {
    /// Ends a pod that only the runtime knows: its object went while the agent was away.
    fn adopt(self: &Arc<Self>, found: &PodRef) {
        tracing::info!(pod = found.name, namespace = found.namespace, "ending a pod that the API server no longer has");
        let metadata = ObjectMeta {
            name: Some(found.name.clone()),
            namespace: Some(found.namespace.clone()),
            uid: Some(found.uid.clone()),
            ..Default::default()
        };
        let pod = Arc::new(Pod { metadata, ..Default::default() });
        let mut workers = self.workers.lock();
        workers.entry(found.uid.clone()).or_insert_with(|| {
            let update = PodUpdate { pod, gone: true };
            super::worker::spawn(self.clone(), found.uid.clone(), update, self.stop.child_token())
        });
    }
}
