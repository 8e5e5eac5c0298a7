//! What the kubelet needs of a container runtime. [`crate::cri::CriRuntime`] speaks to a real one over CRI v1,
//! [`crate::hollow::HollowRuntime`] pretends.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use xebec_node_core::actual::Actual;
use xebec_proto::runtime::v1 as cri;

/// Why a runtime call failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// What was asked for is not there.
    #[error("not found: {0}")]
    NotFound(String),
    /// The runtime refused or failed.
    #[error("{0}")]
    Failed(String),
    /// The runtime does not answer.
    #[error("container runtime unavailable: {0}")]
    Unavailable(String),
    /// The call took longer than it may.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
}

/// Whose pod something in the runtime is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodRef {
    /// The pod's UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One pod's fingerprint in a relist: when it differs from the last one, something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Whose.
    pub pod: PodRef,
    /// Ids with their states, in order.
    pub states: BTreeSet<(String, i32)>,
}

/// An image in the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its identity.
    pub id: String,
    /// Names and digests it goes by.
    pub names: Vec<String>,
    /// Its size.
    pub size_bytes: u64,
    /// User it runs as, if numeric.
    pub uid: Option<i64>,
    /// User it runs as, if named.
    pub user: String,
}

/// What a command in a container answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, then standard error.
    pub output: Vec<u8>,
    /// Its exit status.
    pub exit_code: i32,
}

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its pod.
    pub pod_uid: String,
    /// Its name in the pod.
    pub container: String,
    /// CPU time used so far, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Memory in its working set.
    pub memory_bytes: u64,
}

/// A stream into a container, to be opened at the runtime.
#[derive(Debug, Clone)]
pub enum StreamRequest {
    /// Run a command.
    Exec(cri::ExecRequest),
    /// Attach to the main process.
    Attach(cri::AttachRequest),
    /// Forward connections to ports of the pod.
    PortForward(cri::PortForwardRequest),
}

/// A container runtime.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// What stands before `://` in container ids.
    fn name(&self) -> &'static str;
    /// The runtime's version.
    async fn version(&self) -> Result<String, RuntimeError>;
    /// Why the runtime or its network is not ready; `None` if both are.
    async fn not_ready(&self) -> Result<Option<String>, RuntimeError>;
    /// All pods' fingerprints, cheaply.
    async fn relist(&self) -> Result<Vec<Fingerprint>, RuntimeError>;
    /// All there is of one pod.
    async fn observe(&self, pod_uid: &str) -> Result<Actual, RuntimeError>;
    /// Makes and starts a sandbox.
    async fn run_sandbox(&self, config: cri::PodSandboxConfig) -> Result<String, RuntimeError>;
    /// Stops a sandbox.
    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError>;
    /// Removes a sandbox.
    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError>;
    /// Makes a container.
    async fn create_container(
        &self,
        sandbox_id: &str,
        config: cri::ContainerConfig,
        sandbox: cri::PodSandboxConfig,
    ) -> Result<String, RuntimeError>;
    /// Starts a container.
    async fn start_container(&self, id: &str) -> Result<(), RuntimeError>;
    /// Stops a container.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError>;
    /// Removes a container.
    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError>;
    /// Has a container's log opened anew, after its file was moved away.
    async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError>;
    /// Runs a command in a container.
    async fn exec(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, RuntimeError>;
    /// Where to open a stream.
    async fn stream_url(&self, request: StreamRequest) -> Result<String, RuntimeError>;
    /// The image of this name, if it is here.
    async fn image(&self, name: &str) -> Result<Option<ImageInfo>, RuntimeError>;
    /// Pulls an image.
    async fn pull(&self, name: &str, auth: Option<cri::AuthConfig>) -> Result<(), RuntimeError>;
    /// All images.
    async fn images(&self) -> Result<Vec<ImageInfo>, RuntimeError>;
    /// What containers use.
    async fn usage(&self) -> Result<Vec<Usage>, RuntimeError>;
    /// Whether probes and hooks can reach into containers; a hollow runtime's pods are ready by themselves.
    fn is_real(&self) -> bool {
        true
    }
}
