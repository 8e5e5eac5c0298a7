//! The images of the examples and tests, as OCI archives made from the machine's static busybox: no registry is needed.
//!
//! Format: OCI image layout in a tar file (opencontainers/image-spec, `image-layout.md`), with the reference in
//! `org.opencontainers.image.ref.name` and containerd's `io.containerd.image.name`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{preflight::BUSYBOX, shell};

/// The image every pod sandbox runs.
pub const PAUSE_IMAGE: &str = "xebec.local/pause:1";
/// A small system: shell, httpd, wget, nslookup, nc.
pub const BUSYBOX_IMAGE: &str = "xebec.local/busybox:1";

struct Image {
    reference: &'static str,
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
}

const IMAGES: [Image; 2] = [
    Image {
        reference: PAUSE_IMAGE,
        // The sandbox's first process holds the namespaces, reaps orphans and ends when told to.
        entrypoint: &["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done"],
        command: &[],
    },
    Image { reference: BUSYBOX_IMAGE, entrypoint: &[], command: &["/bin/sh"] },
];

/// Writes one archive an image into `dir`; archives already there are kept.
///
/// # Errors
/// busybox is missing, or a file cannot be written.
pub fn build(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    for image in &IMAGES {
        let name = image.reference.replace(['/', ':'], "_");
        let archive = dir.join(format!("{name}.tar"));
        if !archive.exists() {
            build_one(image, &archive).with_context(|| format!("cannot build image {}", image.reference))?;
        }
    }
    Ok(())
}

fn build_one(image: &Image, archive: &Path) -> Result<()> {
    let staging = archive.with_extension("staging");
    if staging.exists() {
        fs::remove_dir_all(&staging)?;
    }
    let (root, layout) = (staging.join("root"), staging.join("layout"));
    populate(&root)?;
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer_path = staging.join("layer.tar");
    tar(&root, &layer_path, &["."])?;
    let layer = fs::read(&layer_path)?;
    let layer = put_blob(&blobs, "application/vnd.oci.image.layer.v1.tar", &layer)?;
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"], "Entrypoint": image.entrypoint, "Cmd": image.command},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        "history": [{"created_by": "xebec"}],
    });
    let config = put_blob(&blobs, "application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config)?)?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]});
    let mut manifest = put_blob(&blobs, manifest_type, &serde_json::to_vec(&manifest)?)?;
    manifest["annotations"] =
        json!({"io.containerd.image.name": image.reference, "org.opencontainers.image.ref.name": image.reference});
    manifest["platform"] = json!({"architecture": architecture(), "os": "linux"});
    fs::write(layout.join("index.json"), serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [manifest]}))?)?;
    fs::write(layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let staged = staging.join("image.tar");
    tar(&layout, &staged, &["blobs", "index.json", "oci-layout"])?;
    fs::rename(&staged, archive)?;
    fs::remove_dir_all(&staging)?;
    Ok(())
}

fn populate(root: &Path) -> Result<()> {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "var/www", "root", "home"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::copy(BUSYBOX, root.join("bin/busybox"))
        .with_context(|| format!("{BUSYBOX} is missing: apt-get install busybox-static"))?;
    for applet in shell::run(BUSYBOX, &["--list"])?.lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    Ok(())
}

/// A reproducible tar: sorted, without owners or times, so that the same busybox gives the same digest everywhere.
fn tar(dir: &Path, archive: &Path, members: &[&str]) -> Result<()> {
    let (dir, archive) = (dir.to_string_lossy(), archive.to_string_lossy());
    let mut args =
        vec!["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-C", &dir, "-cf", &archive];
    args.extend(members);
    shell::run("tar", &args).map(drop)
}

fn put_blob(blobs: &Path, media_type: &str, content: &[u8]) -> Result<Value> {
    let digest = Sha256::digest(content).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    fs::write(blobs.join(&digest), content)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()}))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}
