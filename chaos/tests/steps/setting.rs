//! The cluster under test, and what every step needs of it.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xebec_chaos::{
    api::ApiClient,
    cluster::{self, Cluster, ClusterSpec, Placement},
    kubectl::Kubectl,
    process::{last_lines, wait_for},
    shell,
};

/// Generous, because the machine may be busy; a step that needs it all is broken, not slow.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A cluster that is gone when the test ends, however it ends.
pub struct Setting {
    pub cluster: Cluster,
    pub kubectl: Kubectl,
}

impl Setting {
    pub fn up() -> Result<Self> {
        let binary = env::var_os("XEBEC_BINARY").context("XEBEC_BINARY is not set: run `cargo xtask test`")?;
        let cluster = Cluster::new(ClusterSpec {
            name: "xbtest".into(),
            dir: "/var/lib/xebec/test".into(),
            binary: binary.into(),
            placement: Placement::Namespaces { subnet: 1 },
            workers: 2,
            hollow: None,
        });
        // What an interrupted run left behind.
        cluster::down(&cluster)?;
        let setting = Self { kubectl: cluster.kubectl(), cluster };
        if let Err(error) = cluster::up(&setting.cluster) {
            setting.show_logs();
            return Err(error);
        }
        Ok(setting)
    }

    /// Takes the cluster down and looks whether anything of it is left on the machine.
    pub fn down_leaves_nothing(&self) -> Result<()> {
        if env::var_os("XEBEC_KEEP").is_some() {
            return Ok(());
        }
        let spec = &self.cluster.spec;
        cluster::down(&self.cluster)?;
        let namespaces = shell::run("ip", &["netns", "list"])?;
        ensure!(!namespaces.contains(&spec.name), "namespaces are left: {namespaces}");
        let links = shell::run("ip", &["-brief", "link"])?;
        ensure!(!links.contains(&spec.name), "links are left: {links}");
        let dir = spec.dir.display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        ensure!(!mounts.contains(&dir), "mounts are left under {dir}");
        ensure!(!spec.dir.exists(), "{dir} is left");
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            ensure!(!String::from_utf8_lossy(&line).contains(&dir), "process {} is left", entry.path().display());
        }
        let cgroups = shell::run("find", &["/sys/fs/cgroup", "-maxdepth", "3", "-name", &format!("{}-*", spec.name)])?;
        ensure!(cgroups.trim().is_empty(), "cgroups are left: {cgroups}");
        Ok(())
    }

    /// A file or folder of the checkout.
    pub fn source(&self, path: &str) -> String {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        root.display().to_string()
    }

    /// A client by way of the balancer, as strangers connect.
    pub async fn api(&self) -> Result<ApiClient> {
        ApiClient::open(&self.cluster.kubeconfig(), None).await
    }

    /// The items of a `kubectl get -o json`.
    pub fn items(&self, args: &[&str]) -> Result<Vec<Value>> {
        Ok(self.kubectl.get(args)?["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until `probe` finds something; an error of kubectl's counts as "not yet".
    pub fn eventually<T>(&self, what: &str, probe: impl Fn() -> Result<Option<T>>) -> Result<T> {
        let last_error = std::cell::RefCell::new(String::new());
        let answer = wait_for(LIMIT, what, || match probe() {
            Ok(answer) => Ok(answer),
            Err(error) => {
                last_error.replace(format!("{error:#}"));
                Ok(None)
            }
        });
        answer.with_context(|| format!("last error: {}", last_error.borrow()))
    }

    /// Running, ready pods with a label that are not on their way out.
    pub fn ready_pods(&self, selector: &str) -> Result<Vec<Value>> {
        let pods = self.items(&["pods", "-l", selector])?;
        Ok(pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod)).collect())
    }

    /// The ends of every host's logs, for whoever reads a failure.
    pub fn show_logs(&self) {
        let spec = &self.cluster.spec;
        for host in spec.masters().into_iter().chain((1..=3).map(|number| spec.worker(number))) {
            let slot = self.cluster.component(&host);
            eprintln!("=== {}\n{}", slot.log().display(), last_lines(slot.log(), 40));
        }
        for args in [&["get", "pods,nodes", "-A", "-o", "wide"][..], &["get", "events", "-A"]] {
            eprintln!("{}", self.kubectl.run(args).unwrap_or_else(|error| format!("{error:#}")));
        }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if env::var_os("XEBEC_KEEP").is_some() {
            eprintln!("XEBEC_KEEP is set: the cluster under {} stays", self.cluster.spec.dir.display());
        } else if let Err(error) = cluster::down(&self.cluster) {
            eprintln!("cannot clean up: {error:#}");
        }
    }
}

/// Whether a pod or a node has the condition `Ready`.
pub fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// An object's name.
pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
