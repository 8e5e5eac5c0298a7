//! etcd itself, and etcdctl: `ETCD_BIN` and `ETCDCTL_BIN`, or what is installed. Tests that need them say so and end
//! where there are none.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use tempfile::TempDir;
use tonic::transport::Channel;
use xebec_proto::etcdserverpb::kv_client::KvClient;

use crate::processes::{PATIENCE, free_ports, get};

fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var(variable).unwrap_or_else(|_| name.to_owned()));
    let found = Command::new(&path).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok().then_some(path)
}

/// Whether etcd and etcdctl are there; if not, says that the test is passed over.
pub fn is_installed() -> bool {
    let all = program("ETCD_BIN", "etcd").is_some() && program("ETCDCTL_BIN", "etcdctl").is_some();
    if !all {
        eprintln!("passed over: needs etcd and etcdctl (or ETCD_BIN and ETCDCTL_BIN)");
    }
    all
}

/// Runs etcdctl and answers with what it printed.
pub fn etcdctl(arguments: &[&str]) -> String {
    let output = Command::new(program("ETCDCTL_BIN", "etcdctl").unwrap())
        .env("ETCDCTL_API", "3")
        .args(arguments)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "etcdctl {arguments:?}: {out}{err}");
    out.into_owned()
}

/// A real etcd, killed when dropped.
pub struct Etcd {
    pub dir: TempDir,
    child: Child,
    pub client: u16,
}

impl Etcd {
    /// Starts an empty one.
    pub async fn start() -> Etcd {
        let dir = TempDir::new().unwrap();
        let ports = free_ports(2);
        Etcd::start_on(dir, ports[0], ports[1]).await
    }

    /// Starts one on `data` inside `dir`, and waits until it serves.
    pub async fn start_on(dir: TempDir, client: u16, peer: u16) -> Etcd {
        let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let child = Command::new(program("ETCD_BIN", "etcd").unwrap())
            .args([
                "--name=e0",
                &format!("--data-dir={}", Etcd::data_dir(dir.path()).display()),
                &format!("--listen-client-urls={client_url}"),
                &format!("--advertise-client-urls={client_url}"),
                &format!("--listen-peer-urls={peer_url}"),
                &format!("--initial-advertise-peer-urls={peer_url}"),
                &format!("--initial-cluster=e0={peer_url}"),
            ])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let etcd = Etcd { dir, child, client };
        let deadline = Instant::now() + PATIENCE;
        let mut kv = KvClient::new(etcd.channel());
        while let Err(status) = kv.range(get(b"nothing")).await {
            assert!(Instant::now() < deadline, "etcd: {status}\n{}", etcd.log());
            tokio::task::yield_now().await;
        }
        etcd
    }

    pub fn data_dir(dir: &Path) -> PathBuf {
        dir.join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    pub fn channel(&self) -> Channel {
        Channel::from_shared(self.url()).unwrap().connect_lazy()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if std::thread::panicking() {
            eprintln!("--- etcd\n{}", self.log());
        }
    }
}
