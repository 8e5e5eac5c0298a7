//! Containers' logs as files: where they are, and keeping them within bounds.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use xebec_node_core::{actual::State, pod};

use super::{Kubelet, Settings};

/// How often sizes are looked at.
const ROTATE_PERIOD: Duration = Duration::from_secs(10);
/// Most of a log's end that is read for a termination message.
const TAIL_BYTES_MAX: u64 = 64 << 10;

/// The files of one container's log.
#[derive(Debug, Clone)]
pub struct LogPaths {
    dir: PathBuf,
    restart_count: u32,
}

impl LogPaths {
    /// The log of the container that was started after `restart_count` others of its name.
    pub fn new(settings: &Settings, pod: &Pod, container: &str, restart_count: u32) -> Self {
        let dir = settings.pod_logs_dir(pod::namespace(pod), pod::name(pod), pod::uid(pod)).join(container);
        Self { dir, restart_count }
    }

    /// The file being written.
    pub fn current(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.restart_count))
    }

    /// Rotated files, oldest first, then the current one.
    pub fn all(&self) -> Vec<PathBuf> {
        let prefix = format!("{}.log.", self.restart_count);
        let mut rotated: Vec<PathBuf> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect();
        rotated.sort();
        rotated.push(self.current());
        rotated
    }

    fn rotated_name(&self) -> PathBuf {
        let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
        self.dir.join(format!("{}.log.{now}", self.restart_count))
    }
}

/// Rotates logs of running containers that grew beyond `bytes_max`, keeping `files_max` files each.
pub async fn rotate_logs(kubelet: Arc<Kubelet>, bytes_max: u64, files_max: usize) {
    loop {
        tokio::select! {
            () = kubelet.stop.cancelled() => return,
            () = tokio::time::sleep(ROTATE_PERIOD) => {}
        }
        for pod in kubelet.pods() {
            if let Err(error) = rotate_pod(&kubelet, &pod, bytes_max, files_max).await {
                tracing::warn!(pod = pod::name(&pod), error, "logs not rotated");
            }
        }
    }
}

async fn rotate_pod(kubelet: &Kubelet, pod: &Pod, bytes_max: u64, files_max: usize) -> Result<(), String> {
    let dir = kubelet.parts.settings.pod_logs_dir(pod::namespace(pod), pod::name(pod), pod::uid(pod));
    let too_large = |entry: &fs::DirEntry| {
        let files = fs::read_dir(entry.path()).into_iter().flatten().filter_map(Result::ok);
        files.filter_map(|file| file.metadata().ok()).any(|metadata| metadata.len() > bytes_max)
    };
    if !fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok).any(|entry| too_large(&entry)) {
        return Ok(());
    }
    let actual = kubelet.parts.runtime.observe(pod::uid(pod)).await.map_err(|error| error.to_string())?;
    for container in actual.containers.iter().filter(|container| container.state == State::Running) {
        let paths = LogPaths::new(&kubelet.parts.settings, pod, &container.name, container.restart_count);
        let size = fs::metadata(paths.current()).map_or(0, |metadata| metadata.len());
        if size <= bytes_max {
            continue;
        }
        fs::rename(paths.current(), paths.rotated_name()).map_err(|error| error.to_string())?;
        kubelet.parts.runtime.reopen_log(&container.id).await.map_err(|error| error.to_string())?;
        let all = paths.all();
        for old in all.iter().take(all.len().saturating_sub(files_max)) {
            fs::remove_file(old).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// The last lines of a CRI log, without their prefixes.
pub(super) fn last_lines(path: &Path, lines: usize) -> io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut text = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let mut tail = all[all.len().saturating_sub(lines)..].join("\n");
    tail.push('\n');
    Ok(tail)
}
