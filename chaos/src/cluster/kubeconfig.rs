//! kubeconfig files.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use xebec_pki::Issued;

/// Writes a kubeconfig that holds its credentials, readable by its owner only. (JSON is YAML.)
pub(super) fn write(path: &Path, cluster: &str, server: &str, ca_pem: &str, user: &Issued) -> Result<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": cluster,
        "clusters": [{"name": cluster, "cluster": {
            "server": server, "certificate-authority-data": STANDARD.encode(ca_pem)}}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": STANDARD.encode(&user.certificate_pem),
            "client-key-data": STANDARD.encode(&user.key_pem)}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": "admin"}}],
    });
    let staged = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&staged)
        .with_context(|| format!("cannot write {}", staged.display()))?;
    file.write_all(&serde_json::to_vec_pretty(&config)?)?;
    fs::rename(&staged, path)?;
    Ok(())
}
