use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use xebec_proto::etcdserverpb::{SnapshotRequest, maintenance_client::MaintenanceClient};
use xebec_store_snapshot::SnapshotFile;

use super::{ClientFlags, OperateError, client::refused, io_error};

/// Bytes of one message that are taken at most; servers send 32 KiB.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Saves a snapshot, and checks its sum before the file gets its name.
pub(super) async fn save(path: &Path, client: &ClientFlags) -> Result<(), OperateError> {
    let version = download(path, client).await?;
    println!("Snapshot saved at {}", path.display());
    if !version.is_empty() {
        println!("Server version {version}");
    }
    Ok(())
}

/// Saves a snapshot; says the source's storage version, if it has one.
pub(super) async fn download(path: &Path, client: &ClientFlags) -> Result<String, OperateError> {
    let (endpoint, connection) = client.connect().await?;
    let mut maintenance = MaintenanceClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let unfinished = Unfinished(path.with_added_extension("part"));
    let answer = maintenance.snapshot(SnapshotRequest {}).await;
    let mut stream = answer.map_err(|status| refused(&endpoint, status))?.into_inner();
    let mut file = File::create(&unfinished.0).map_err(io_error(&unfinished.0))?;
    let mut version = String::new();
    while let Some(part) = stream.message().await.map_err(|status| refused(&endpoint, status))? {
        file.write_all(&part.blob).map_err(io_error(&unfinished.0))?;
        version = part.version;
    }
    file.sync_all().map_err(io_error(&unfinished.0))?;
    drop(file);
    SnapshotFile::verify(&unfinished.0, false)?;
    fs::rename(&unfinished.0, path).map_err(io_error(path))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error(parent))?;
    Ok(version)
}

/// A file that is removed unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove an unfinished snapshot");
        }
    }
}
