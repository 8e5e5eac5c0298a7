//! A worker host: its container runtime and its node agent; or one process that plays many hollow nodes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{Cluster, Host};
use crate::{
    images::PAUSE_IMAGE,
    preflight::CNI_BIN_DIR,
    process::{Launch, wait_for},
    shell,
};

/// A container runtime answers within this time, or something is wrong.
const RUNTIME_START_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// The hosts share one disk with everything else on the machine: a tenth of it free is too much to ask.
const EVICTION_HARD: &str = "nodefs.available<1Gi";

/// How a worker gets into the cluster.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The bootstrap token.
    pub token: String,
    /// The pin of the cluster's authority.
    pub ca_hash: String,
}

/// The token travels in the environment: command lines are for everybody to see.
fn environment(entry: &Worker) -> Vec<(String, String)> {
    vec![("XEBEC_TOKEN".into(), entry.token.clone())]
}

impl Cluster {
    pub(super) fn start_worker(&self, host: &Host, entry: &Worker) -> Result<()> {
        fs::create_dir_all(&host.dir)?;
        self.start_runtime(host)?;
        let images = self.spec.dir.join("images");
        let mut argv = self.node_argv(host, entry);
        argv.extend([
            format!("--container-runtime-endpoint=unix://{}", host.dir.join("containerd.sock").display()),
            format!("--image-dir={}", images.display()),
            format!("--cni-conf-dir={}", host.dir.join("cni").display()),
            format!("--cni-bin-dir={CNI_BIN_DIR}"),
            format!("--cgroup-root={}", self.cgroup_root(host)),
            format!("--memory-dir={}", self.memory_dir(host).display()),
            "--cluster-dns=10.96.0.10".into(),
            "--cluster-domain=cluster.local".into(),
        ]);
        let launch = Launch { argv, network_namespace: host.network_namespace.clone(), env: environment(entry) };
        self.component(host).start(&launch)?;
        Ok(())
    }

    /// The cgroup of a host's pods: no two hosts on the machine share one, whatever clusters they belong to.
    pub(super) fn cgroup_root(&self, host: &Host) -> String {
        format!("/xebec/{}-{}", self.spec.name, host.name)
    }

    /// Where a host's Secrets lie: in memory.
    pub(super) fn memory_dir(&self, host: &Host) -> PathBuf {
        Path::new("/dev/shm").join(format!("{}-{}", self.spec.name, host.name))
    }

    pub(super) fn start_hollow(&self, host: &Host, entry: &Worker) -> Result<()> {
        fs::create_dir_all(&host.dir)?;
        let mut argv = self.node_argv(host, entry);
        argv.push(format!("--hollow={}", self.spec.hollow.unwrap_or(1)));
        let launch = Launch { argv, network_namespace: host.network_namespace.clone(), env: environment(entry) };
        self.component(host).start(&launch)?;
        Ok(())
    }

    fn node_argv(&self, host: &Host, entry: &Worker) -> Vec<String> {
        let servers: Vec<_> = self.spec.masters().iter().map(Host::api_url).collect();
        vec![
            self.spec.binary.display().to_string(),
            "node".into(),
            format!("--node-name={}", host.name),
            format!("--node-ip={}", host.address),
            format!("--data-dir={}", host.dir.join("data").display()),
            format!("--server={}", servers.join(",")),
            format!("--ca-cert-hash={}", entry.ca_hash),
            format!("--eviction-hard={EVICTION_HARD}"),
        ]
    }

    fn start_runtime(&self, host: &Host) -> Result<()> {
        let config = host.dir.join("containerd.toml");
        fs::create_dir_all(host.dir.join("cni"))?;
        fs::write(&config, self.runtime_config(host)).with_context(|| format!("cannot write {}", config.display()))?;
        let argv = ["containerd", "--config"].map(String::from).into_iter().chain([config.display().to_string()]);
        let launch = Launch { argv: argv.collect(), network_namespace: host.network_namespace.clone(), env: vec![] };
        let slot = self.runtime(host);
        slot.start(&launch)?;
        let socket = host.dir.join("containerd.sock").display().to_string();
        wait_for(RUNTIME_START_LIMIT, &format!("containerd of {}", host.name), || {
            slot.ensure_running()?;
            Ok(shell::succeeds("ctr", &["--address", &socket, "version"]).then_some(()))
        })
    }

    /// One containerd a host, everything of it under the host's directory; network namespaces of pods too, so that
    /// nothing is left in `/run/netns` when the host goes.
    fn runtime_config(&self, host: &Host) -> String {
        let dir = host.dir.display();
        format!(
            r#"version = 2
root = "{dir}/containerd"
state = "{dir}/containerd-state"
[grpc]
  address = "{dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_BIN_DIR}"
    conf_dir = "{dir}/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/containerd-opt"
"#
        )
    }
}
