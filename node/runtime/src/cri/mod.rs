//! CRI v1 over a unix socket.

mod convert;

use std::{collections::BTreeMap, future::Future, time::Duration};

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use xebec_node_core::{actual::Actual, labels};
use xebec_proto::runtime::v1::{
    self as cri, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};

use crate::runtime::{ExecOutput, Fingerprint, ImageInfo, Runtime, RuntimeError, StreamRequest, Usage};

/// Bound on ordinary calls.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bound on making a sandbox or a container: the network plugin and the snapshotter work here.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);
/// Bound on pulling an image.
const PULL_TIMEOUT: Duration = Duration::from_secs(600);
/// What a stop may take beyond the container's grace.
const STOP_EXTRA: Duration = Duration::from_secs(15);
/// Largest answer taken, as upstream's kubelet.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A runtime behind a CRI socket.
pub struct CriRuntime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl CriRuntime {
    /// Prepares a connection to `endpoint` (`unix:///path` or a path). It is dialled on the first call, and again after
    /// the runtime restarted.
    ///
    /// # Errors
    /// The endpoint is not a unix socket.
    pub fn connect(endpoint: &str) -> Result<Self, String> {
        let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint).to_owned();
        if !path.starts_with('/') {
            return Err(format!("{endpoint:?} is not a unix socket"));
        }
        let dial = tower::service_fn(move |_: http::Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address only fills the HTTP/2 authority, which a unix socket does not use.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(dial);
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX),
            images: ImageServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX),
        })
    }

    async fn sandboxes(&self, pod_uid: Option<&str>) -> Result<Vec<cri::PodSandbox>, RuntimeError> {
        let filter = cri::PodSandboxFilter { label_selector: by_pod(pod_uid), ..Default::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        Ok(bounded(CALL_TIMEOUT, self.runtime.clone().list_pod_sandbox(request)).await?.items)
    }

    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<cri::Container>, RuntimeError> {
        let filter = cri::ContainerFilter { label_selector: by_pod(pod_uid), ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        Ok(bounded(CALL_TIMEOUT, self.runtime.clone().list_containers(request)).await?.containers)
    }
}

fn by_pod(pod_uid: Option<&str>) -> std::collections::HashMap<String, String> {
    pod_uid.map(|uid| (labels::POD_UID.to_owned(), uid.to_owned())).into_iter().collect()
}

async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, RuntimeError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(convert::error(&status)),
        Err(_) => Err(RuntimeError::TimedOut(limit)),
    }
}

/// What is gone already counts as stopped and removed.
fn gone_is_fine<T>(result: Result<T, RuntimeError>) -> Result<(), RuntimeError> {
    match result {
        Ok(_) | Err(RuntimeError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Runtime for CriRuntime {
    fn name(&self) -> &'static str {
        "containerd"
    }

    async fn version(&self) -> Result<String, RuntimeError> {
        let answer = bounded(CALL_TIMEOUT, self.runtime.clone().version(cri::VersionRequest::default())).await?;
        Ok(format!("{}://{}", answer.runtime_name, answer.runtime_version.trim_start_matches('v')))
    }

    async fn not_ready(&self) -> Result<Option<String>, RuntimeError> {
        let answer = bounded(CALL_TIMEOUT, self.runtime.clone().status(cri::StatusRequest::default())).await?;
        let conditions = answer.status.unwrap_or_default().conditions;
        let failing = conditions.into_iter().find(|condition| !condition.status);
        Ok(failing.map(|failing| {
            format!(
                "container runtime not ready: {}=false reason:{} message:{}",
                failing.r#type, failing.reason, failing.message
            )
        }))
    }

    async fn relist(&self) -> Result<Vec<Fingerprint>, RuntimeError> {
        let (sandboxes, containers) = tokio::try_join!(self.sandboxes(None), self.containers(None))?;
        let mut pods: BTreeMap<String, Fingerprint> = BTreeMap::new();
        let sandboxes = sandboxes.into_iter().map(|found| (found.labels, found.id, found.state));
        let containers = containers.into_iter().map(|found| (found.labels, found.id, found.state));
        for (found_labels, id, state) in sandboxes.chain(containers) {
            let Some(pod) = convert::pod_ref(&found_labels) else { continue };
            let entry = pods.entry(pod.uid.clone()).or_insert_with(|| Fingerprint { pod, states: Default::default() });
            entry.states.insert((id, state));
        }
        Ok(pods.into_values().collect())
    }

    async fn observe(&self, pod_uid: &str) -> Result<Actual, RuntimeError> {
        let (listed_sandboxes, listed) =
            tokio::try_join!(self.sandboxes(Some(pod_uid)), self.containers(Some(pod_uid)))?;
        let mut sandboxes = Vec::with_capacity(listed_sandboxes.len());
        for sandbox in listed_sandboxes {
            let request = cri::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id, verbose: false };
            match bounded(CALL_TIMEOUT, self.runtime.clone().pod_sandbox_status(request)).await {
                Ok(answer) => sandboxes.extend(answer.status.map(convert::sandbox)),
                Err(RuntimeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut containers = Vec::with_capacity(listed.len());
        for container in listed {
            let request = cri::ContainerStatusRequest { container_id: container.id, verbose: false };
            match bounded(CALL_TIMEOUT, self.runtime.clone().container_status(request)).await {
                Ok(answer) => {
                    containers
                        .extend(answer.status.map(|status| convert::container(status, &container.pod_sandbox_id)));
                }
                Err(RuntimeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Actual::new(sandboxes, containers))
    }

    async fn run_sandbox(&self, config: cri::PodSandboxConfig) -> Result<String, RuntimeError> {
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        Ok(bounded(CREATE_TIMEOUT, self.runtime.clone().run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(bounded(CREATE_TIMEOUT, self.runtime.clone().stop_pod_sandbox(request)).await)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(bounded(CREATE_TIMEOUT, self.runtime.clone().remove_pod_sandbox(request)).await)
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: cri::ContainerConfig,
        sandbox: cri::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        Ok(bounded(CREATE_TIMEOUT, self.runtime.clone().create_container(request)).await?.container_id)
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        bounded(CREATE_TIMEOUT, self.runtime.clone().start_container(request)).await.map(drop)
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout };
        gone_is_fine(bounded(grace + STOP_EXTRA, self.runtime.clone().stop_container(request)).await)
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        gone_is_fine(bounded(CALL_TIMEOUT, self.runtime.clone().remove_container(request)).await)
    }

    async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError> {
        let request = cri::ReopenContainerLogRequest { container_id: id.to_owned() };
        bounded(CALL_TIMEOUT, self.runtime.clone().reopen_container_log(request)).await.map(drop)
    }

    async fn exec(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<ExecOutput, RuntimeError> {
        let seconds = i64::try_from(timeout.as_secs().max(1)).unwrap_or(i64::MAX);
        let request = cri::ExecSyncRequest { container_id: id.to_owned(), cmd: command, timeout: seconds };
        let answer = bounded(timeout + STOP_EXTRA, self.runtime.clone().exec_sync(request)).await?;
        let output = [answer.stdout, answer.stderr].concat();
        Ok(ExecOutput { output, exit_code: answer.exit_code })
    }

    async fn stream_url(&self, request: StreamRequest) -> Result<String, RuntimeError> {
        let mut client = self.runtime.clone();
        Ok(match request {
            StreamRequest::Exec(request) => bounded(CALL_TIMEOUT, client.exec(request)).await?.url,
            StreamRequest::Attach(request) => bounded(CALL_TIMEOUT, client.attach(request)).await?.url,
            StreamRequest::PortForward(request) => bounded(CALL_TIMEOUT, client.port_forward(request)).await?.url,
        })
    }

    async fn image(&self, name: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        let image = Some(cri::ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = cri::ImageStatusRequest { image, verbose: false };
        Ok(bounded(CALL_TIMEOUT, self.images.clone().image_status(request)).await?.image.map(convert::image))
    }

    async fn pull(&self, name: &str, auth: Option<cri::AuthConfig>) -> Result<(), RuntimeError> {
        let image = Some(cri::ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = cri::PullImageRequest { image, auth, sandbox_config: None };
        bounded(PULL_TIMEOUT, self.images.clone().pull_image(request)).await.map(drop)
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, RuntimeError> {
        let answer = bounded(CALL_TIMEOUT, self.images.clone().list_images(cri::ListImagesRequest::default())).await?;
        Ok(answer.images.into_iter().map(convert::image).collect())
    }

    async fn usage(&self) -> Result<Vec<Usage>, RuntimeError> {
        let request = cri::ListContainerStatsRequest::default();
        let answer = bounded(CALL_TIMEOUT, self.runtime.clone().list_container_stats(request)).await?;
        Ok(answer.stats.into_iter().filter_map(convert::usage).collect())
    }
}
