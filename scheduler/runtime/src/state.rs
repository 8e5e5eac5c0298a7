//! What the scheduler knows, fed by the caches: the snapshot, the queue, and the pods it has assumed to be bound.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use xebec_client::ObjectKey;
use xebec_client::cache::{Cache, Change};
use xebec_scheduler_core::{PodInfo, SchedulingQueue, Snapshot, is_waiting_at_gate, scheduler_name};

/// Shared by the feeds and the term.
pub(crate) struct State {
    inner: Mutex<Inner>,
    pub(crate) wake: Notify,
    start: Instant,
    scheduler_name: String,
}

struct Inner {
    snapshot: Snapshot,
    queue: SchedulingQueue,
    /// Pods (by uid) placed in the snapshot whose binding the watch has not shown yet, with their keys.
    assumed: HashMap<String, ObjectKey>,
    /// Pending pods that may fit because another pod arrives (affinity, spreading).
    sociable: HashSet<String>,
}

/// What a pod is to the scheduler.
enum Role {
    /// Bound to a node, or finished.
    Settled,
    /// Waiting to be scheduled by us.
    Ours,
    /// Not for us, or not yet: gated, being deleted, another scheduler's.
    Apart,
}

impl State {
    pub(crate) fn new(scheduler_name: String) -> Arc<Self> {
        let inner = Inner {
            snapshot: Snapshot::new(),
            queue: SchedulingQueue::new(),
            assumed: HashMap::new(),
            sociable: HashSet::new(),
        };
        Arc::new(Self { inner: Mutex::new(inner), wake: Notify::new(), start: Instant::now(), scheduler_name })
    }

    /// Keeps the state current with the caches.
    pub(crate) fn follow(
        self: &Arc<Self>,
        pods: &Cache<Pod>,
        nodes: &Cache<Node>,
        services: &Cache<Service>,
        namespaces: &Cache<Namespace>,
    ) {
        let state = self.clone();
        pods.on_change(move |change| state.pod_changed(change));
        let state = self.clone();
        nodes.on_change(move |change| state.node_changed(change));
        let state = self.clone();
        services.on_change(move |change| {
            let mut inner = state.inner.lock();
            match &change.new {
                Some(service) => inner.snapshot.set_service(service),
                None => inner.snapshot.remove_service(&change.key.namespace, &change.key.name),
            }
        });
        let state = self.clone();
        namespaces.on_change(move |change| {
            let mut inner = state.inner.lock();
            match &change.new {
                Some(namespace) => {
                    let labels = namespace.metadata.labels.clone().unwrap_or_default();
                    inner.snapshot.set_namespace(&change.key.name, labels);
                }
                None => inner.snapshot.remove_namespace(&change.key.name),
            }
        });
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn role(&self, pod: &Pod) -> Role {
        let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|name| !name.is_empty());
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if bound || matches!(phase, Some("Succeeded" | "Failed")) {
            Role::Settled
        } else if pod.metadata.deletion_timestamp.is_some()
            || is_waiting_at_gate(pod)
            || scheduler_name(pod) != self.scheduler_name
        {
            Role::Apart
        } else {
            Role::Ours
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let now = self.now();
        let key = change.key.to_string();
        let mut inner = self.inner.lock();
        // A pod replaced by a namesake between two looks: the old one is gone.
        if let Some(old) = &change.old
            && change.new.as_ref().is_none_or(|new| new.metadata.uid != old.metadata.uid)
        {
            inner.gone(old, &key, now);
        }
        let Some(pod) = &change.new else {
            drop(inner);
            return self.wake.notify_one();
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        match self.role(pod) {
            Role::Settled => {
                let finished = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                let frees = matches!(finished, Some("Succeeded" | "Failed"));
                inner.assumed.remove(&uid);
                inner.queue.remove(&key);
                inner.sociable.remove(&key);
                inner.snapshot.set_pod(pod);
                if frees || !inner.sociable.is_empty() {
                    inner.queue.changed(now);
                }
            }
            Role::Apart => {
                inner.queue.remove(&key);
                inner.sociable.remove(&key);
            }
            Role::Ours if inner.assumed.contains_key(&uid) => {}
            Role::Ours => {
                if !inner.queue.contains(&key) || reshaped(change.old.as_deref(), pod) {
                    inner.enqueue(&key, pod);
                }
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    fn node_changed(&self, change: &Change<Node>) {
        let now = self.now();
        let mut inner = self.inner.lock();
        match &change.new {
            Some(node) => {
                inner.snapshot.set_node(node);
                if change.old.as_ref().is_none_or(|old| may_fit_more(old, node)) {
                    inner.queue.changed(now);
                }
            }
            None => inner.snapshot.remove_node(&change.key.name),
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Begins a term: forgets what an earlier term assumed, and lines up all pending pods.
    pub(crate) fn restart(&self, pods: &Cache<Pod>) {
        let all = pods.list();
        let mut inner = self.inner.lock();
        let assumed: Vec<String> = inner.assumed.drain().map(|(uid, _)| uid).collect();
        assumed.iter().for_each(|uid| inner.snapshot.remove_pod(uid));
        inner.queue = SchedulingQueue::new();
        inner.sociable.clear();
        for pod in all {
            if matches!(self.role(&pod), Role::Ours) {
                inner.enqueue(&ObjectKey::of(pod.as_ref()).to_string(), &pod);
            }
        }
    }

    /// The next pod to try with the snapshot to try it against, or how long to wait for one at most.
    pub(crate) fn next(&self) -> Result<(String, Snapshot), Option<Duration>> {
        let now = self.now();
        let mut inner = self.inner.lock();
        match inner.queue.pop(now) {
            Some(key) => Ok((key, inner.snapshot.clone())),
            None => Err(inner.queue.next_due().map(|due| due.saturating_sub(now))),
        }
    }

    /// Counts a pod against its node before the binding is written.
    pub(crate) fn assume(&self, key: &ObjectKey, pod: &Pod, node: &str) {
        let info = Arc::new(PodInfo::new(pod));
        let mut inner = self.inner.lock();
        inner.assumed.insert(info.uid.clone(), key.clone());
        inner.snapshot.place(info, node);
        inner.queue.remove(&key.to_string());
    }

    /// The binding was refused: the pod is tried again, if it is still there.
    pub(crate) fn forget(&self, key: &ObjectKey, pod: &Pod, present: bool) {
        let now = self.now();
        let mut inner = self.inner.lock();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        // If the watch has shown the pod bound meanwhile, it is no longer assumed, and stays where it is.
        if inner.assumed.remove(&uid).is_none() {
            return;
        }
        inner.snapshot.remove_pod(&uid);
        if present {
            let name = key.to_string();
            inner.enqueue(&name, pod);
            inner.queue.back_off(&name, now);
        }
        inner.queue.changed(now);
        drop(inner);
        self.wake.notify_one();
    }

    /// The pod fits nowhere, or its attempt failed (`transient`).
    pub(crate) fn failed(&self, key: &str, transient: bool, sociable: bool) {
        let now = self.now();
        let mut inner = self.inner.lock();
        if sociable && inner.queue.contains(key) {
            inner.sociable.insert(key.to_owned());
        } else {
            inner.sociable.remove(key);
        }
        inner.queue.failed(key, transient, now);
    }

    /// Drops a key that no longer stands for a pod to schedule.
    pub(crate) fn drop_key(&self, key: &str) {
        let mut inner = self.inner.lock();
        inner.queue.remove(key);
        inner.sociable.remove(key);
    }

    /// How many pods wait, and how many nodes are known.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.queue.len(), inner.snapshot.node_count())
    }
}

impl Inner {
    fn enqueue(&mut self, key: &str, pod: &Pod) {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_microsecond());
        self.queue.add(key, priority, created);
    }

    fn gone(&mut self, pod: &Pod, key: &str, now: Duration) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.assumed.remove(&uid);
        self.queue.remove(key);
        self.sociable.remove(key);
        self.snapshot.remove_pod(&uid);
        self.queue.changed(now);
    }
}

/// Whether a change of the pod may change the decision; its status does not.
fn reshaped(old: Option<&Pod>, new: &Pod) -> bool {
    old.is_none_or(|old| old.spec != new.spec || old.metadata.labels != new.metadata.labels)
}

/// Whether a change of the node may make room (upstream's `NodeAdd`, `NodeUpdate*` cluster events). Heartbeats do not.
fn may_fit_more(old: &Node, new: &Node) -> bool {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    let placement = |node: &Node| {
        let spec = node.spec.as_ref();
        (spec.and_then(|spec| spec.taints.clone()), spec.and_then(|spec| spec.unschedulable))
    };
    old.metadata.labels != new.metadata.labels
        || allocatable(old) != allocatable(new)
        || placement(old) != placement(new)
}
