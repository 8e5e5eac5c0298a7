//! Who leads: the store's members by stock etcdctl, the control loops by their Lease.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Cluster, Host};
use crate::shell;

impl Cluster {
    /// The running master whose store member leads.
    ///
    /// # Errors
    /// No member answers, or none leads just now.
    pub fn store_leader(&self) -> Result<Host> {
        let masters = self.spec.masters();
        let running: Vec<_> = masters.into_iter().filter(|host| self.component(host).pid().is_some()).collect();
        let endpoints: Vec<_> = running.iter().map(Host::store_client_url).collect();
        let statuses: Value =
            serde_json::from_str(&self.etcdctl(&endpoints, &["endpoint", "status", "--write-out=json"])?)?;
        for status in statuses.as_array().into_iter().flatten() {
            let leads = status["Status"]["leader"] == status["Status"]["header"]["member_id"];
            let at = running.iter().find(|host| status["Endpoint"] == host.store_client_url().as_str());
            if let (true, Some(host)) = (leads, at) {
                return Ok(host.clone());
            }
        }
        bail!("no member leads: {statuses}")
    }

    /// The master whose controllers lead.
    ///
    /// # Errors
    /// The API does not answer, or nobody holds the Lease.
    pub fn controllers_leader(&self) -> Result<Host> {
        let lease = self.kubectl().get(&["lease", "-n", "kube-system", "kube-controller-manager"])?;
        let holder = lease["spec"]["holderIdentity"].as_str().context("nobody holds the Lease")?.to_owned();
        let masters = self.spec.masters();
        masters.into_iter().find(|host| host.name == holder).with_context(|| format!("{holder} is no master"))
    }

    /// Runs stock etcdctl against members of the store.
    ///
    /// # Errors
    /// etcdctl fails; the error holds its message.
    pub fn etcdctl(&self, endpoints: &[String], args: &[&str]) -> Result<String> {
        let certs = self.spec.masters()[0].dir.join("certs");
        let flag = |name: &str, file: &str| format!("--{name}={}", certs.join(file).display());
        let mut all = vec![
            "ETCDCTL_API=3".to_owned(),
            "etcdctl".to_owned(),
            format!("--endpoints={}", endpoints.join(",")),
            flag("cacert", "etcd/ca.crt"),
            flag("cert", "apiserver-etcd-client.crt"),
            flag("key", "apiserver-etcd-client.key"),
        ];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        shell::run("env", &all.iter().map(String::as_str).collect::<Vec<_>>())
    }
}
