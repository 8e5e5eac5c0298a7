//! Images: from the archive directory first, then from registries.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use base64::Engine as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::process::Command;
use xebec_node_core::{plan::Knowledge, pod};
use xebec_proto::runtime::v1 as cri;

use super::Kubelet;
use crate::runtime::{ImageInfo, RuntimeError};

/// How long an imported image may take to be seen by the runtime's CRI side.
const VISIBLE_MAX: Duration = Duration::from_secs(5);
const VISIBLE_STEP: Duration = Duration::from_millis(50);
/// Bound on importing one archive.
const IMPORT_MAX: Duration = Duration::from_secs(300);

/// Brings images into the runtime that no registry has.
#[async_trait]
pub trait ImageImporter: Send + Sync + 'static {
    /// Imports every archive that is new or has changed; answers how many it imported.
    async fn import_new(&self) -> Result<usize, RuntimeError>;
}

/// Imports OCI archives with containerd's `ctr`, since CRI has no import.
pub struct CtrImporter {
    dir: PathBuf,
    socket: String,
    imported: Mutex<HashMap<PathBuf, (SystemTime, u64)>>,
    busy: tokio::sync::Mutex<()>,
}

impl CtrImporter {
    /// An importer of the archives in `dir` into the containerd at `endpoint`.
    pub fn new(dir: &Path, endpoint: &str) -> Self {
        let socket = endpoint.strip_prefix("unix://").unwrap_or(endpoint).to_owned();
        Self { dir: dir.to_owned(), socket, imported: Mutex::default(), busy: tokio::sync::Mutex::default() }
    }

    fn new_archives(&self) -> std::io::Result<Vec<(PathBuf, (SystemTime, u64))>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "tar") {
                let metadata = entry.metadata()?;
                let version = (metadata.modified()?, metadata.len());
                if self.imported.lock().get(&path) != Some(&version) {
                    found.push((path, version));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

#[async_trait]
impl ImageImporter for CtrImporter {
    async fn import_new(&self) -> Result<usize, RuntimeError> {
        let _one_at_a_time = self.busy.lock().await;
        let failed = |error: std::io::Error| RuntimeError::Failed(format!("{}: {error}", self.dir.display()));
        let archives = self.new_archives().map_err(failed)?;
        let count = archives.len();
        for (path, version) in archives {
            let mut command = Command::new("ctr");
            command.args(["-n", "k8s.io", "-a", &self.socket, "images", "import"]).arg(&path);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
            let output = tokio::time::timeout(IMPORT_MAX, command.output())
                .await
                .map_err(|_| RuntimeError::TimedOut(IMPORT_MAX))?
                .map_err(|error| RuntimeError::Failed(format!("ctr: {error}")))?;
            if !output.status.success() {
                let reason = String::from_utf8_lossy(&output.stderr);
                return Err(RuntimeError::Failed(format!("{}: {}", path.display(), reason.trim())));
            }
            tracing::info!(archive = %path.display(), "image archive imported");
            self.imported.lock().insert(path, version);
        }
        Ok(count)
    }
}

/// Why an image is not there.
#[derive(Debug)]
pub(super) enum ImageFailure {
    BackOff { message: String, until: Timestamp },
    Failed { reason: &'static str, message: String, until: Timestamp },
}

/// `pull:` keeps image keys apart from container names in the back-off's table.
fn back_off_key(image: &str) -> String {
    format!("pull:{image}")
}

/// The policy a container gets without one: `Always` for `:latest` (upstream's defaulting).
fn policy(spec: &Container, image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    let is_latest = !image.contains('@') && (name.ends_with(":latest") || !name.contains(':'));
    spec.image_pull_policy.clone().unwrap_or_else(|| if is_latest { "Always" } else { "IfNotPresent" }.to_owned())
}

impl Kubelet {
    pub(super) async fn ensure_image(
        &self,
        pod: &Pod,
        spec: &Container,
        knowledge: &Mutex<Knowledge>,
        now: Timestamp,
    ) -> Result<ImageInfo, ImageFailure> {
        let image = spec.image.as_deref().unwrap_or_default();
        let policy = policy(spec, image);
        let container = Some(spec.name.as_str());
        let present = self.present_or_import(image).await;
        if let Ok(Some(found)) = &present
            && (policy != "Always" || self.is_ours(image))
        {
            let message = format!("Container image \"{image}\" already present on machine");
            self.event(pod, container, false, "Pulled", message);
            return Ok(found.clone());
        }
        let key = back_off_key(image);
        let last = knowledge.lock().backoff.last(&key);
        let waits = last.and_then(|last| knowledge.lock().backoff.wait(&key, last, now));
        if let Some((until, _)) = waits {
            return Err(ImageFailure::BackOff { message: format!("Back-off pulling image \"{image}\""), until });
        }
        let failure = |reason: &'static str, message: String| {
            let mut knowledge = knowledge.lock();
            knowledge.backoff.next(&key, now);
            // The next attempt says that it backs off, and until when.
            let until = now.checked_add(Duration::from_secs(1)).unwrap_or(now);
            ImageFailure::Failed { reason, message, until }
        };
        if policy == "Never" {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            return Err(failure("ErrImageNeverPull", message));
        }
        self.event(pod, container, false, "Pulling", format!("Pulling image \"{image}\""));
        let auth = self.registry_auth(pod, image).await;
        let pulled = self.parts.runtime.pull(image, auth).await;
        match pulled {
            Err(error) => Err(failure("ErrImagePull", format!("Failed to pull image \"{image}\": {error}"))),
            Ok(()) => match self.parts.runtime.image(image).await {
                Ok(Some(found)) => {
                    knowledge.lock().backoff.reset(&key);
                    self.event(pod, container, false, "Pulled", format!("Successfully pulled image \"{image}\""));
                    Ok(found)
                }
                Ok(None) => Err(failure("ErrImagePull", format!("image \"{image}\" vanished after it was pulled"))),
                Err(error) => Err(failure("ImageInspectError", error.to_string())),
            },
        }
    }

    /// Imports archives that are new: the sandbox's own image may be among them.
    pub(super) async fn import_images(&self) {
        if let Some(importer) = &self.parts.importer
            && let Err(error) = importer.import_new().await
        {
            tracing::warn!(%error, "image archives not imported");
        }
    }

    /// Whether no registry can have the image: it is one the project builds itself.
    fn is_ours(&self, image: &str) -> bool {
        self.parts.importer.is_some() && image.starts_with("xebec.local/") || !self.parts.runtime.is_real()
    }

    async fn present_or_import(&self, image: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        let runtime = &self.parts.runtime;
        if let Some(found) = runtime.image(image).await? {
            return Ok(Some(found));
        }
        let Some(importer) = &self.parts.importer else { return Ok(None) };
        let count =
            importer.import_new().await.inspect_err(|error| tracing::warn!(%error, "image archives not imported"))?;
        if count == 0 && !self.is_ours(image) {
            return Ok(None);
        }
        // The runtime's CRI side learns of imports from its own events, a moment later.
        let mut waited = Duration::ZERO;
        loop {
            match runtime.image(image).await? {
                None if waited < VISIBLE_MAX && self.is_ours(image) => {
                    tokio::time::sleep(VISIBLE_STEP).await;
                    waited += VISIBLE_STEP;
                }
                found => return Ok(found),
            }
        }
    }

    /// Credentials from the pod's pull secrets for the image's registry.
    async fn registry_auth(&self, pod: &Pod, image: &str) -> Option<cri::AuthConfig> {
        let names: Vec<_> =
            pod::spec(pod).image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()).collect();
        if names.is_empty() {
            return None;
        }
        let objects = self.parts.objects.objects(pod).await.ok()?;
        let registry = image.split('/').next().filter(|part| part.contains(['.', ':'])).unwrap_or("docker.io");
        names
            .iter()
            .filter_map(|name| objects.secrets.get(name))
            .find_map(|data| auth_of(data.get(".dockerconfigjson")?, registry))
    }
}

fn auth_of(config: &[u8], registry: &str) -> Option<cri::AuthConfig> {
    let config: serde_json::Value = serde_json::from_slice(config).ok()?;
    let entry = config["auths"].as_object()?.iter().find(|(host, _)| {
        let host = host.trim_start_matches("https://").trim_start_matches("http://");
        host.split('/').next() == Some(registry)
    })?;
    let text = |field: &str| entry.1[field].as_str().unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")).unwrap_or_default();
    if let Some((user, secret)) = String::from_utf8_lossy(&decoded).split_once(':') {
        (username, password) = (user.to_owned(), secret.to_owned());
    }
    Some(cri::AuthConfig { username, password, server_address: registry.to_owned(), ..Default::default() })
}
