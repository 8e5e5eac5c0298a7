//! Pods that nobody will ever finish.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::{action::Action, meta, node, pods};

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Where a pod's node stands.
#[derive(Clone, Debug)]
pub enum Home {
    /// The pod is bound to no node.
    None,
    /// The node exists.
    Present(Arc<Node>),
    /// The node does not exist, as the API server itself says.
    Absent,
}

/// What is seen of one pod.
#[derive(Debug)]
pub struct Observed {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its node.
    pub home: Home,
    /// The time.
    pub now: Timestamp,
}

/// Removes pods whose node is gone, whose node is declared out of service, or which were deleted before they had one.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let pod = &*observed.pod;
    match &observed.home {
        Home::None if meta::is_deleting(pod) => vec![Action::delete_now(pod)],
        Home::Absent => remove(observed, "PodGC: node no longer exists"),
        Home::Present(home) if meta::is_deleting(pod) && node::readiness(home) != "True" => {
            let taints = home.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
            if taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE) {
                remove(observed, "PodGC: node is out of service")
            } else {
                Vec::new()
            }
        }
        Home::None | Home::Present(_) => Vec::new(),
    }
}

fn remove(observed: &Observed, message: &str) -> Vec<Action> {
    let pod = &*observed.pod;
    let mut actions = Vec::new();
    if !pods::is_terminated(pod) {
        actions.push(node::disrupt(pod, observed.now, "DeletionByPodGC", message, Some("Failed")));
    }
    actions.push(Action::delete_now(pod));
    actions
}

/// Removes the oldest terminated pods beyond a threshold; 0 keeps all.
#[must_use]
pub fn reconcile_terminated(all: &[Arc<Pod>], threshold: usize) -> Vec<Action> {
    if threshold == 0 {
        return Vec::new();
    }
    let mut ended: Vec<_> = all.iter().filter(|pod| pods::is_terminated(pod) && !meta::is_deleting(&***pod)).collect();
    let surplus = ended.len().saturating_sub(threshold);
    ended.sort_by_key(|pod| (meta::created(&***pod), meta::name(&***pod).to_owned()));
    ended.into_iter().take(surplus).map(|pod| Action::delete_now(&**pod)).collect()
}
