//! The two servers that are compared: a real etcd, and this crate's.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use tempfile::TempDir;
use tokio::time::{Duration, Instant, interval};
use tonic::transport::Channel;
use xebec_proto::etcdserverpb::{
    RangeRequest, StatusRequest, kv_client::KvClient, maintenance_client::MaintenanceClient,
};

use crate::generate::CLIENTS;
use crate::processes::{Cluster, free_ports};

/// Longest wait for a server to serve.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks whether it does.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Timings that both servers get, since the smallest time to live of a lease follows from them.
const TIMINGS: [&str; 2] = ["--heartbeat-interval=100", "--election-timeout=1000"];

/// A server under comparison.
pub struct Server {
    /// One connection for each client, one more for watches.
    pub channels: Vec<Channel>,
    process: Process,
}

enum Process {
    Etcd { child: Child, dir: TempDir },
    Xebec(Box<Cluster>),
}

/// The real etcd: `$ETCD_BIN`, or the one in the path.
///
/// # Panics
/// If there is none: a comparison with nothing proves nothing.
pub fn etcd_binary() -> PathBuf {
    if let Some(named) = env::var_os("ETCD_BIN") {
        let named = PathBuf::from(named);
        assert!(named.is_file(), "ETCD_BIN names {}, which is no file", named.display());
        return named;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join("etcd")).find(|file| file.is_file());
    found.expect("no etcd to compare with: install the package etcd-server (`cargo xtask test` does), or set ETCD_BIN")
}

impl Server {
    pub async fn etcd(more_flags: &[&str]) -> Server {
        // In memory where possible: this compares answers, not disks.
        let shm = PathBuf::from("/dev/shm");
        let dir = if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() }.unwrap();
        let ports = free_ports(2);
        let (client, peer) = (format!("http://127.0.0.1:{}", ports[0]), format!("http://127.0.0.1:{}", ports[1]));
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new(etcd_binary())
            .arg(format!("--data-dir={}", dir.path().join("data").display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--initial-cluster=default={peer}"))
            .args(TIMINGS)
            .args(more_flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Server::ready(&client, Process::Etcd { child, dir }).await
    }

    pub async fn xebec(more_flags: &[&str]) -> Server {
        let flags: Vec<&str> = TIMINGS.iter().chain(more_flags).copied().collect();
        let cluster = Cluster::with_flags(1, &flags);
        let url = cluster.client_url(0);
        Server::ready(&url, Process::Xebec(Box::new(cluster))).await
    }

    async fn ready(url: &str, process: Process) -> Server {
        let connect = || Channel::from_shared(url.to_owned()).unwrap().connect_lazy();
        let server = Server { channels: (0..=CLIENTS).map(|_| connect()).collect(), process };
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        let get = RangeRequest { key: "ready".into(), ..Default::default() };
        while let Err(status) = KvClient::new(server.channels[0].clone()).range(get.clone()).await {
            assert!(Instant::now() < deadline, "the server does not serve: {status}\n{}", server.log());
            looks.tick().await;
        }
        server
    }

    /// The version that the server says it has, as numbers.
    pub async fn version(&self) -> (u32, u32) {
        let mut maintenance = MaintenanceClient::new(self.channels[0].clone());
        let version = maintenance.status(StatusRequest {}).await.unwrap().into_inner().version;
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// What the server has printed.
    pub fn log(&self) -> String {
        match &self.process {
            Process::Etcd { dir, .. } => fs::read_to_string(dir.path().join("log")).unwrap_or_default(),
            Process::Xebec(cluster) => cluster.log(0),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Process::Etcd { child, .. } = self {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
