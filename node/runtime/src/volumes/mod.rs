//! Volumes on the host.
//!
//! The agent mounts nothing: the container runtime may live in another mount namespace, where the agent's mounts would
//! not show. Secrets and `medium: Memory` go to a directory that already is in memory (`/run`), everything else under
//! the data directory.

mod atomic;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, Pod, Volume};
use xebec_node_core::{
    env::{Facts, Objects},
    files::{self, Files, TokenWish},
    pod,
};

use crate::objects::ObjectError;

/// A volume that is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is on the host.
    pub path: PathBuf,
    /// Whether containers may not write to it.
    pub read_only: bool,
}

/// A pod's volumes by name.
pub type Mounts = BTreeMap<String, Mounted>;

/// Tokens by what was wished for.
pub type Tokens = BTreeMap<TokenWish, String>;

/// Why a volume is not in place.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The API objects it is made of cannot be had.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// They lack what it needs.
    #[error("MountVolume.SetUp failed for volume {volume:?}: {source}")]
    Content {
        /// Its name.
        volume: String,
        /// What is missing.
        #[source]
        source: files::Error,
    },
    /// The host's file system refused.
    #[error("MountVolume.SetUp failed for volume {volume:?}: {source}")]
    File {
        /// Its name.
        volume: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A host path is not of the type that was asked for.
    #[error("hostPath type check failed: {path} is not {wanted}")]
    HostPath {
        /// The path.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// No plugin here provides such a volume.
    #[error("no volume plugin matched for volume {0:?}")]
    Unsupported(String),
}

/// Puts volumes in place.
#[async_trait]
pub trait Volumes: Send + Sync + 'static {
    /// Brings all of a pod's volumes in place and up to date.
    async fn mount(&self, pod: &Pod, objects: &Objects, tokens: &Tokens, facts: &Facts) -> Result<Mounts, VolumeError>;
    /// Takes a pod's volumes away, and what they held.
    async fn unmount(&self, pod: &Pod) -> Result<(), VolumeError>;
}

/// Volumes of pods that only pretend.
#[derive(Debug, Clone, Copy, Default)]
pub struct HollowVolumes;

#[async_trait]
impl Volumes for HollowVolumes {
    async fn mount(&self, _: &Pod, _: &Objects, _: &Tokens, _: &Facts) -> Result<Mounts, VolumeError> {
        Ok(Mounts::new())
    }

    async fn unmount(&self, _: &Pod) -> Result<(), VolumeError> {
        Ok(())
    }
}

/// Volumes as directories of this host.
#[derive(Debug, Clone)]
pub struct HostVolumes {
    /// Under which pods have a directory each, on disk.
    pub pods_dir: PathBuf,
    /// Likewise, in memory.
    pub memory_dir: PathBuf,
    /// Cgroup hierarchies, and the cgroup of this node's pods in each: emptied ones are removed with the pod.
    pub cgroups: Option<(PathBuf, String)>,
}

impl HostVolumes {
    fn mount_one(&self, pod: &Pod, volume: &Volume, content: Option<Files>) -> Result<Mounted, VolumeError> {
        let failed = |source: io::Error| VolumeError::File { volume: volume.name.clone(), source };
        let group = pod::spec(pod).security_context.as_ref().and_then(|context| context.fs_group);
        if let Some(source) = &volume.host_path {
            return host_path(source, &volume.name);
        }
        if let Some(files) = content {
            let secret = volume.secret.is_some()
                || volume.projected.as_ref().is_some_and(|projected| {
                    let sources = projected.sources.iter().flatten();
                    sources.into_iter().any(|source| source.secret.is_some() || source.service_account_token.is_some())
                });
            let path = self.dir(pod, secret, "api", &volume.name);
            atomic::write(&path, &files, group).map_err(failed)?;
            return Ok(Mounted { path, read_only: true });
        }
        let Some(source) = &volume.empty_dir else {
            return Err(VolumeError::Unsupported(volume.name.clone()));
        };
        let path = self.dir(pod, source.medium.as_deref() == Some("Memory"), "empty-dir", &volume.name);
        if !path.exists() {
            fs::create_dir_all(&path).map_err(failed)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(failed)?;
        }
        if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
            chown(&path, None, Some(group)).map_err(failed)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o2777)).map_err(failed)?;
        }
        Ok(Mounted { path, read_only: false })
    }

    fn dir(&self, pod: &Pod, in_memory: bool, kind: &str, name: &str) -> PathBuf {
        let root = if in_memory { &self.memory_dir } else { &self.pods_dir };
        root.join(pod::uid(pod)).join("volumes").join(kind).join(name)
    }

    fn remove_cgroups(&self, uid: &str) {
        let Some((root, parent)) = &self.cgroups else { return };
        let name = format!("{}/pod{uid}", parent.trim_start_matches('/'));
        // One hierarchy per controller with cgroup v1; with v2, the root is the hierarchy.
        let hierarchies = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        for hierarchy in hierarchies.chain([root.clone()]) {
            let dir = hierarchy.join(&name);
            if dir.exists()
                && let Err(error) = fs::remove_dir(&dir)
            {
                tracing::debug!(dir = %dir.display(), %error, "a pod's cgroup is still in use");
            }
        }
    }
}

#[async_trait]
impl Volumes for HostVolumes {
    async fn mount(&self, pod: &Pod, objects: &Objects, tokens: &Tokens, facts: &Facts) -> Result<Mounts, VolumeError> {
        let dir = self.pods_dir.join(pod::uid(pod));
        fs::create_dir_all(&dir).map_err(|source| VolumeError::File { volume: String::new(), source })?;
        let mut mounts = Mounts::new();
        for volume in pod::spec(pod).volumes.iter().flatten() {
            let content = files::volume_files(pod, volume, objects, tokens, facts)
                .map_err(|source| VolumeError::Content { volume: volume.name.clone(), source })?;
            mounts.insert(volume.name.clone(), self.mount_one(pod, volume, content)?);
        }
        Ok(mounts)
    }

    async fn unmount(&self, pod: &Pod) -> Result<(), VolumeError> {
        let uid = pod::uid(pod);
        for dir in [self.pods_dir.join(uid).join("volumes"), self.memory_dir.join(uid)] {
            match fs::remove_dir_all(&dir) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(VolumeError::File { volume: dir.display().to_string(), source });
                }
                _ => {}
            }
        }
        self.remove_cgroups(uid);
        Ok(())
    }
}

fn host_path(source: &HostPathVolumeSource, volume: &str) -> Result<Mounted, VolumeError> {
    let path = PathBuf::from(&source.path);
    let failed = |source: io::Error| VolumeError::File { volume: volume.to_owned(), source };
    let wanted = match source.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" => {
            fs::create_dir_all(&path).map_err(failed)?;
            (path.is_dir(), "a directory")
        }
        "FileOrCreate" => {
            fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
            (path.is_file(), "a file")
        }
        "Directory" => (path.is_dir(), "a directory"),
        "File" => (path.is_file(), "a file"),
        "Socket" | "CharDevice" | "BlockDevice" => (path.exists() && !path.is_dir() && !path.is_file(), "a device"),
        _ => (true, ""),
    };
    match wanted {
        (true, _) => Ok(Mounted { path, read_only: false }),
        (false, wanted) => Err(VolumeError::HostPath { path: source.path.clone(), wanted }),
    }
}

/// The host path of a part of a volume. Links are followed now, and must not lead out of the volume.
pub(crate) fn sub_path(volume: &Path, part: &str, read_only: bool) -> Result<PathBuf, String> {
    if part.starts_with('/') || part.split('/').any(|step| step == "..") {
        return Err(format!("subPath {part:?} must stay inside the volume"));
    }
    let path = volume.join(part);
    let failed = |error: io::Error| format!("subPath {part:?}: {error}");
    if !path.exists() && !read_only {
        let mut existing = path.as_path();
        while !existing.exists() {
            existing = existing.parent().unwrap_or(volume);
        }
        inside(volume, existing)?;
        fs::create_dir_all(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(failed)?;
    }
    inside(volume, &path)
}

fn inside(volume: &Path, path: &Path) -> Result<PathBuf, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let (root, real) = (volume.canonicalize().map_err(failed)?, path.canonicalize().map_err(failed)?);
    if real.starts_with(&root) { Ok(real) } else { Err(format!("{} leads out of the volume", path.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir(&volume).unwrap();
        assert_eq!(sub_path(&volume, "a/b", false).unwrap(), volume.canonicalize().unwrap().join("a/b"));
        assert!(sub_path(&volume, "../x", false).is_err());
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        assert!(sub_path(&volume, "out/passwd", false).unwrap_err().contains("leads out"));
        assert!(sub_path(&volume, "missing", true).is_err());
    }

    #[tokio::test]
    async fn volumes_come_and_go_with_their_pod() {
        let dir = tempfile::tempdir().unwrap();
        let volumes =
            HostVolumes { pods_dir: dir.path().join("pods"), memory_dir: dir.path().join("memory"), cgroups: None };
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "m"}},
                {"name": "h", "hostPath": {"path": "/etc", "type": "Directory"}}]},
        }))
        .unwrap();
        let mut objects = Objects::default();
        objects.config_maps.insert("m".into(), [("k".to_owned(), b"1".to_vec())].into());
        let mount = |objects: Objects| {
            let (volumes, pod) = (volumes.clone(), pod.clone());
            async move { volumes.mount(&pod, &objects, &Tokens::new(), &Facts::default()).await.unwrap() }
        };
        let mounts = mount(objects.clone()).await;
        let file = mounts["c"].path.join("k");
        assert_eq!(fs::read_to_string(&file).unwrap(), "1");
        assert!(mounts["c"].read_only && !mounts["e"].read_only);
        assert_eq!(mounts["h"].path, Path::new("/etc"));
        let before = fs::read_link(mounts["c"].path.join("..data")).unwrap();
        objects.config_maps.get_mut("m").unwrap().insert("k".into(), b"2".to_vec());
        mount(objects).await;
        assert_eq!(fs::read_to_string(&file).unwrap(), "2", "updates reach the mounted volume");
        assert_ne!(fs::read_link(mounts["c"].path.join("..data")).unwrap(), before);
        volumes.unmount(&pod).await.unwrap();
        assert!(!mounts["e"].path.exists());
    }
}
