//! A containerd of the test's own, in a network namespace of its own, and a busybox image to run in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub const IMAGE: &str = "xebec.local/busybox:1";
const READY_MAX: Duration = Duration::from_secs(30);

/// Runs a command to its end; panics with what it said if it failed.
pub fn command(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

pub struct Containerd {
    pub dir: tempfile::TempDir,
    pub namespace: String,
    process: Child,
}

impl Containerd {
    pub fn socket(&self) -> String {
        format!("unix://{}", self.dir.path().join("containerd.sock").display())
    }

    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let namespace = format!("xt-node-{}", std::process::id());
        command("ip", &["netns", "add", &namespace]);
        command("ip", &["-n", &namespace, "link", "set", "lo", "up"]);
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(at("cni")).unwrap();
        fs::create_dir(at("images")).unwrap();
        let cidrs = ["10.99.7.0/24".parse().unwrap()];
        fs::write(at("cni/10-xebec.conflist"), xebec_node_core::cni::conflist(&cidrs, 0, &at("leases"))).unwrap();
        image(dir.path(), IMAGE, &["/bin/busybox", "sh"]);
        image(dir.path(), "xebec.local/pause:1", &["/bin/busybox", "sleep", "100000000"]);
        let config = format!(
            r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "xebec.local/pause:1"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#,
            root = at("root"),
            state = at("state"),
            socket = at("containerd.sock"),
            cni = at("cni"),
        );
        fs::write(at("config.toml"), config).unwrap();
        let log = fs::File::create(at("containerd.log")).unwrap();
        // Not `ip netns exec`: that mounts a new /sys, and runc finds no cgroups there.
        let process = Command::new("nsenter")
            .args([&format!("--net=/run/netns/{namespace}"), "containerd", "--config", &at("config.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = Self { dir, namespace, process };
        let begun = Instant::now();
        while !Path::new(&started.socket()[7..]).exists() {
            assert!(begun.elapsed() < READY_MAX, "containerd does not come up");
            std::thread::yield_now();
        }
        started
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // The shims of containers that a failed test left behind carry this directory in their arguments.
        let socket = self.dir.path().join("containerd.sock").display().to_string();
        for pid in
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&socket) {
                Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
            }
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("containerd.log")).unwrap_or_default();
            eprintln!("containerd's last words:\n{}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
        }
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        Command::new("sh")
            .args([
                "-c",
                &format!("grep -o '{}[^ ]*' /proc/mounts | sort -r | xargs -r umount -l", self.dir.path().display()),
            ])
            .status()
            .unwrap();
        let cgroups = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        for cgroup in cgroups.map(|entry| entry.path().join(format!("xt-node-{}", std::process::id()))) {
            if cgroup.exists() {
                fs::remove_dir(&cgroup).unwrap_or_else(|error| eprintln!("{}: {error}", cgroup.display()));
            }
        }
        Command::new("ip").args(["netns", "del", &self.namespace]).status().unwrap();
    }
}

fn digest(path: &Path) -> (String, u64) {
    let sum = command("sha256sum", &[path.to_str().unwrap()]);
    (sum.split_whitespace().next().unwrap().to_owned(), fs::metadata(path).unwrap().len())
}

/// Writes an OCI archive of an image that holds busybox, into `images/` of `dir`.
fn image(dir: &Path, name: &str, entrypoint: &[&str]) {
    let work = dir.join("build");
    let blobs = work.join("oci/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let root = work.join("root");
    for part in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    for applet in
        ["sh", "cat", "sleep", "echo", "ls", "httpd", "wget", "id", "hostname", "env", "kill", "true", "false"]
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let layer = work.join("layer.tar");
    command("tar", &["-C", root.to_str().unwrap(), "-cf", layer.to_str().unwrap(), "."]);
    let store = |path: PathBuf| {
        let (hash, size) = digest(&path);
        fs::rename(path, blobs.join(&hash)).unwrap();
        (format!("sha256:{hash}"), size)
    };
    let json = |value: serde_json::Value| {
        let path = work.join("blob.json");
        fs::write(&path, value.to_string()).unwrap();
        store(path)
    };
    let (layer, layer_size) = store(layer);
    let (config, config_size) = json(serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    }));
    let (manifest, manifest_size) = json(serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size}],
    }));
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size,
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(':').next()}}]});
    fs::write(work.join("oci/index.json"), index.to_string()).unwrap();
    fs::write(work.join("oci/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let file = dir.join("images").join(format!("{}.tar", name.replace(['/', ':'], "_")));
    command("tar", &["-C", work.join("oci").to_str().unwrap(), "-cf", file.to_str().unwrap(), "."]);
    fs::remove_dir_all(&work).unwrap();
}
