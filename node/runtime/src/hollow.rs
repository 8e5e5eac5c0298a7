//! A runtime whose pods only pretend: sandboxes get an address out of the node's podCIDR, containers run until they are
//! stopped. Everything above it is the real kubelet, so it serves scale tests and machines without containers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use ipnet::IpNet;
use jiff::Timestamp;
use parking_lot::Mutex;
use xebec_node_core::{
    actual::{Actual, Container, Sandbox, State},
    labels,
};
use xebec_proto::runtime::v1 as cri;

use crate::runtime::{ExecOutput, Fingerprint, ImageInfo, PodRef, Runtime, RuntimeError, StreamRequest, Usage};

struct Pretended<T> {
    pod: PodRef,
    what: T,
}

#[derive(Default)]
struct World {
    sandboxes: BTreeMap<String, Pretended<Sandbox>>,
    containers: BTreeMap<String, Pretended<Container>>,
    next_id: u64,
}

/// See the module's documentation.
#[derive(Default)]
pub struct HollowRuntime {
    world: Mutex<World>,
    pod_cidr: ArcSwapOption<IpNet>,
}

impl HollowRuntime {
    /// Tells where pods get their addresses from.
    pub fn set_pod_cidr(&self, cidr: IpNet) {
        self.pod_cidr.store(Some(Arc::new(cidr)));
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

fn pod_of(found: &std::collections::HashMap<String, String>) -> PodRef {
    let of = |label: &str| found.get(label).cloned().unwrap_or_default();
    PodRef { uid: of(labels::POD_UID), namespace: of(labels::POD_NAMESPACE), name: of(labels::POD_NAME) }
}

impl World {
    fn id(&mut self) -> String {
        self.next_id += 1;
        format!("hollow{:016x}", self.next_id)
    }

    fn free_address(&self, cidr: &IpNet) -> Option<IpAddr> {
        let taken: BTreeSet<&str> =
            self.sandboxes.values().flat_map(|sandbox| sandbox.what.ips.iter().map(String::as_str)).collect();
        // The first host address is the gateway's, as with host-local.
        cidr.hosts().skip(1).find(|ip| !taken.contains(ip.to_string().as_str()))
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, RuntimeError> {
        self.containers.get_mut(id).map(|found| &mut found.what).ok_or_else(|| RuntimeError::NotFound(id.to_owned()))
    }

    fn end(&mut self, keep: impl Fn(&Container) -> bool) {
        for found in self.containers.values_mut().map(|found| &mut found.what) {
            if !keep(found) && found.state == State::Running {
                found.state = State::Exited;
                found.finished_at = Some(now());
                found.reason = "Completed".into();
            }
        }
    }
}

#[async_trait]
impl Runtime for HollowRuntime {
    fn name(&self) -> &'static str {
        "hollow"
    }

    async fn version(&self) -> Result<String, RuntimeError> {
        Ok(format!("hollow://{}", env!("CARGO_PKG_VERSION")))
    }

    async fn not_ready(&self) -> Result<Option<String>, RuntimeError> {
        Ok(None)
    }

    async fn relist(&self) -> Result<Vec<Fingerprint>, RuntimeError> {
        let world = self.world.lock();
        let mut pods: BTreeMap<&str, Fingerprint> = BTreeMap::new();
        let sandboxes = world.sandboxes.values().map(|s| (&s.pod, s.what.id.clone(), i32::from(s.what.ready)));
        let containers = world.containers.values().map(|c| (&c.pod, c.what.id.clone(), c.what.state as i32));
        for (pod, id, state) in sandboxes.chain(containers) {
            let entry =
                pods.entry(&pod.uid).or_insert_with(|| Fingerprint { pod: pod.clone(), states: Default::default() });
            entry.states.insert((id, state));
        }
        Ok(pods.into_values().collect())
    }

    async fn observe(&self, pod_uid: &str) -> Result<Actual, RuntimeError> {
        let world = self.world.lock();
        let sandboxes = world.sandboxes.values().filter(|s| s.pod.uid == pod_uid).map(|s| s.what.clone()).collect();
        let containers = world.containers.values().filter(|c| c.pod.uid == pod_uid).map(|c| c.what.clone()).collect();
        Ok(Actual::new(sandboxes, containers))
    }

    async fn run_sandbox(&self, config: cri::PodSandboxConfig) -> Result<String, RuntimeError> {
        let cidr = self.pod_cidr.load_full();
        let mut world = self.world.lock();
        let cidr = cidr.ok_or_else(|| RuntimeError::Failed("the node has no podCIDR yet".into()))?;
        let ip = world.free_address(&cidr).ok_or_else(|| RuntimeError::Failed(format!("no free address in {cidr}")))?;
        let id = world.id();
        let what = Sandbox {
            id: id.clone(),
            attempt: config.metadata.unwrap_or_default().attempt,
            ready: true,
            created_at: now(),
            ips: vec![ip.to_string()],
        };
        world.sandboxes.insert(id.clone(), Pretended { pod: pod_of(&config.labels), what });
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let mut world = self.world.lock();
        world.end(|container| container.sandbox_id != id);
        if let Some(sandbox) = world.sandboxes.get_mut(id) {
            sandbox.what.ready = false;
            sandbox.what.ips.clear();
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let mut world = self.world.lock();
        world.sandboxes.remove(id);
        world.containers.retain(|_, container| container.what.sandbox_id != id);
        Ok(())
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: cri::ContainerConfig,
        _sandbox: cri::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let mut world = self.world.lock();
        let id = world.id();
        let metadata = config.metadata.unwrap_or_default();
        let image = config.image.unwrap_or_default().image;
        let what = Container {
            id: id.clone(),
            name: metadata.name,
            sandbox_id: sandbox_id.to_owned(),
            restart_count: metadata.attempt,
            hash: config.annotations.get(labels::CONTAINER_HASH).cloned().unwrap_or_default(),
            state: State::Created,
            created_at: now(),
            started_at: None,
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image_id: image.clone(),
            image,
        };
        world.containers.insert(id.clone(), Pretended { pod: pod_of(&config.labels), what });
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let mut world = self.world.lock();
        let found = world.container(id)?;
        found.state = State::Running;
        found.started_at = Some(now());
        Ok(())
    }

    async fn stop_container(&self, id: &str, _grace: Duration) -> Result<(), RuntimeError> {
        self.world.lock().end(|container| container.id != id);
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        self.world.lock().containers.remove(id);
        Ok(())
    }

    async fn reopen_log(&self, _id: &str) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn exec(&self, _id: &str, _command: Vec<String>, _timeout: Duration) -> Result<ExecOutput, RuntimeError> {
        Ok(ExecOutput::default())
    }

    async fn stream_url(&self, _request: StreamRequest) -> Result<String, RuntimeError> {
        Err(RuntimeError::Failed("a hollow node has no processes to talk to".into()))
    }

    async fn image(&self, name: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        Ok(Some(ImageInfo { id: name.to_owned(), names: vec![name.to_owned()], ..Default::default() }))
    }

    async fn pull(&self, _name: &str, _auth: Option<cri::AuthConfig>) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, RuntimeError> {
        Ok(Vec::new())
    }

    async fn usage(&self) -> Result<Vec<Usage>, RuntimeError> {
        Ok(Vec::new())
    }

    fn is_real(&self) -> bool {
        false
    }
}
