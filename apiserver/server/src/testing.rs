//! Debian's etcd for tests, on loopback ports the system chose.

use crate::store::{Store, StoreConfig};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const ETCD: [&str; 2] = ["/usr/bin/etcd", "/usr/local/bin/etcd"];
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running etcd with an empty data directory.
pub(crate) struct Etcd {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Etcd {
    /// Starts one; `None` where etcd is not installed (`cargo xtask test` installs it).
    pub(crate) async fn start() -> Option<(Self, Arc<Store>)> {
        let program = ETCD.into_iter().find(|path| std::path::Path::new(path).exists())?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            format!("http://{}", listener.local_addr().expect("bound"))
        };
        let (url, peer) = (free(), free());
        let child = Command::new(program)
            .args(["--name", "test", "--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}"), "--unsafe-no-fsync"])
            .arg("--data-dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        let config = StoreConfig { servers: vec![url], ca: None, cert: None, key: None };
        let store = Arc::new(Store::new(&config).expect("a store client"));
        let etcd = Self { child, _directory: directory };
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        while store.current_revision().await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "etcd did not start");
        }
        Some((etcd, store))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            eprintln!("etcd: {error}");
        }
    }
}
