//! The kubelet: one worker per pod, woken by the API server, by the runtime's relist, by probes and by time.

mod act;
mod config;
mod hooks;
mod http_get;
mod images;
mod logs;
mod observe;
mod probes;
mod relist;
mod report;
mod start;
mod worker;

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use xebec_client::{Cache, Recorder};
use xebec_node_core::{env::Facts, pod, resolv::Resolv, status::Host};

pub use images::{CtrImporter, ImageImporter};
pub use logs::{LogPaths, rotate_logs};
use worker::Handle;

use crate::{objects::ObjectSource, runtime::Runtime, volumes::Volumes};

/// The time, so that tests can pass their own.
pub trait Clock: Send + Sync + 'static {
    /// What time it is.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What stays the same while a kubelet runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of its Node.
    pub node_name: String,
    /// Address of its Node.
    pub node_ip: IpAddr,
    /// Where volumes and logs live.
    pub data_dir: PathBuf,
    /// Cgroup under which this node's pods run.
    pub cgroup_root: String,
    /// Addresses of cluster DNS.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// The host's own resolver.
    pub host_resolv: Resolv,
    /// Allocatable thousandths of a CPU.
    pub cpu_milli: i64,
    /// The machine's memory.
    pub memory_bytes: i64,
}

impl Settings {
    /// Where everything of one pod lives, but its logs.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    /// Where the pods' logs live.
    pub fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("pods-logs")
    }

    /// The directory of one pod's logs (upstream's `BuildPodLogsDirectory`).
    pub fn pod_logs_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs_dir().join(format!("{namespace}_{name}_{uid}"))
    }

    /// What the downward API tells.
    pub fn facts(&self, pod_ips: Vec<String>) -> Facts {
        Facts {
            node_name: self.node_name.clone(),
            host_ip: self.node_ip.to_string(),
            pod_ips,
            node_cpu_milli: self.cpu_milli,
            node_memory_bytes: self.memory_bytes,
        }
    }
}

/// What the kubelet is told of a pod.
#[derive(Debug, Clone)]
pub struct PodUpdate {
    /// Its newest object; for an orphan, what the runtime's labels tell.
    pub pod: Arc<Pod>,
    /// Whether the API server no longer has it.
    pub gone: bool,
}

/// Everything a kubelet works with.
pub struct Parts {
    /// See [`Settings`].
    pub settings: Settings,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// The volumes.
    pub volumes: Arc<dyn Volumes>,
    /// ConfigMaps, Secrets and tokens.
    pub objects: Arc<dyn ObjectSource>,
    /// Where images come from before registries are asked.
    pub importer: Option<Arc<dyn ImageImporter>>,
    /// Services, for service links.
    pub services: Option<Cache<Service>>,
    /// To write statuses with; without one, nothing is written (standalone).
    pub client: Option<kube::Client>,
    /// To write events with.
    pub recorder: Option<Recorder>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A kubelet. Dropping it stops workers and touches no container.
pub struct Kubelet {
    pub(crate) parts: Parts,
    host: Host,
    workers: Mutex<HashMap<String, Handle>>,
    stop: CancellationToken,
}

impl Kubelet {
    /// A kubelet without pods yet.
    pub fn new(parts: Parts, stop: CancellationToken) -> Arc<Self> {
        let host = Host { ip: parts.settings.node_ip.to_string(), runtime_name: parts.runtime.name().to_owned() };
        Arc::new(Self { parts, host, workers: Mutex::default(), stop })
    }

    /// Takes the newest object of a pod.
    pub fn update(self: &Arc<Self>, update: PodUpdate) {
        let uid = pod::uid(&update.pod).to_owned();
        let mut workers = self.workers.lock();
        if let Some(handle) = workers.get(&uid) {
            return handle.send(update);
        }
        if update.gone && !self.has_traces(&uid) {
            return;
        }
        let handle = worker::spawn(self.clone(), uid.clone(), update, self.stop.child_token());
        workers.insert(uid, handle);
    }

    fn has_traces(&self, uid: &str) -> bool {
        self.parts.settings.pod_dir(uid).exists() || !self.parts.runtime.is_real()
    }

    /// Takes a pod out of `cache` changes: an object that is gone is a pod to be ended.
    pub fn follow(self: &Arc<Self>, cache: &Cache<Pod>) {
        let kubelet = self.clone();
        cache.on_change(move |change| match (&change.old, &change.new) {
            (Some(old), Some(new)) if pod::uid(old) != pod::uid(new) => {
                kubelet.update(PodUpdate { pod: old.clone(), gone: true });
                kubelet.update(PodUpdate { pod: new.clone(), gone: false });
            }
            (_, Some(new)) => kubelet.update(PodUpdate { pod: new.clone(), gone: false }),
            (Some(old), None) => kubelet.update(PodUpdate { pod: old.clone(), gone: true }),
            (None, None) => {}
        });
    }

    /// Watches the runtime until stopped; `known` says whether the API server (still) has a pod, `None` if that is not
    /// known yet.
    pub async fn watch_runtime(self: Arc<Self>, known: impl Fn(&str) -> Option<bool> + Send) {
        relist::run(self, known).await;
    }

    /// The pods this kubelet cares for.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.workers.lock().values().map(Handle::pod).collect()
    }

    /// The pod of this name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods().into_iter().find(|found| pod::namespace(found) == namespace && pod::name(found) == name)
    }

    pub(crate) fn wake(&self, uid: &str) -> bool {
        self.workers.lock().get(uid).map(Handle::wake).is_some()
    }

    fn forget(&self, uid: &str) {
        self.workers.lock().remove(uid);
    }

    pub(crate) fn event(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &str, message: String) {
        let Some(recorder) = &self.parts.recorder else { return };
        let kind = if warning { xebec_client::EventType::Warning } else { xebec_client::EventType::Normal };
        let mut regarding = kube::Resource::object_ref(pod, &());
        regarding.field_path = container.map(|name| format!("spec.containers{{{name}}}"));
        recorder.event_on(regarding, kind, reason, message);
    }
}

/// Writes a file so that readers see the old or the new content, never half of it.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, content)?;
    std::fs::rename(&temporary, path)
}
