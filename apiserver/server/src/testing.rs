//! Debian's etcd for tests, on loopback ports the system chose.

use crate::store::{Store, StoreConfig};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

const ETCD: [&str; 2] = ["/usr/bin/etcd", "/usr/local/bin/etcd"];
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running etcd with an empty data directory.
pub(crate) struct Etcd {
    child: Child,
    /// Where clients reach it.
    pub(crate) url: String,
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
        let store = Arc::new(client(vec![url.clone()]));
        let etcd = Self { child, url, _directory: directory };
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        while store.current_revision().await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "etcd did not start");
        }
        Some((etcd, store))
    }
}

/// A client of these endpoints, the first one preferred.
pub(crate) fn client(servers: Vec<String>) -> Store {
    let config = StoreConfig { servers, ca: None, cert: None, key: None, identity: "127.0.0.1:6443".into() };
    Store::new(&config).expect("a store client")
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            eprintln!("etcd: {error}");
        }
    }
}

/// A connection to the store on which the first request that names a certain key gets stuck: the client sees a broken
/// connection, the store sees the request when it is [let go](Self::let_go).
pub(crate) struct Held {
    loses_answers: Arc<AtomicBool>,
    go: Option<oneshot::Sender<()>>,
    arrived: Option<oneshot::Receiver<()>>,
}

/// The key whose request gets stuck.
const MARKER: &str = "/r/held-up";

impl Held {
    /// Listens before `server`; the URL to reach it by.
    pub(crate) async fn before(server: &str) -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let loses_answers = Arc::new(AtomicBool::new(false));
        let ((go, gone), (arrives, arrived)) = (oneshot::channel(), oneshot::channel());
        tokio::spawn(hold_up(listener, server.to_owned(), Arc::clone(&loses_answers), gone, arrives));
        (Self { loses_answers, go: Some(go), arrived: Some(arrived) }, url)
    }

    pub(crate) fn marker(&self) -> String {
        MARKER.to_owned()
    }

    /// Requests arrive at once; it is their answers that nobody gets.
    pub(crate) fn answers_are_lost(&mut self) {
        self.loses_answers.store(true, Ordering::Release);
    }

    /// Lets the request arrive, and waits until the store has answered it.
    pub(crate) async fn let_go(&mut self) {
        self.go.take().expect("held").send(()).expect("somebody holds it");
        self.arrived.take().expect("held").await.expect("an answer of the store");
    }
}

async fn hold_up(
    listener: tokio::net::TcpListener,
    server: String,
    loses_answers: Arc<AtomicBool>,
    gone: oneshot::Receiver<()>,
    arrives: oneshot::Sender<()>,
) {
    let (mut client, _) = listener.accept().await.expect("a client");
    // No other connection: the client has to turn away.
    drop(listener);
    let mut there = tokio::net::TcpStream::connect(&server).await.ok();
    let (mut sent, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let stuck = loop {
        let Some(server) = there.as_mut() else {
            // Nobody behind: everything is stuck.
            return;
        };
        tokio::select! {
            read = client.read(&mut sent) => {
                let bytes = sent[..read.expect("the client sends")].to_vec();
                if bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes()) {
                    break bytes;
                }
                server.write_all(&bytes).await.expect("the store reads");
            }
            read = server.read(&mut answered) => {
                client.write_all(&answered[..read.expect("the store answers")]).await.expect("the client reads");
            }
        }
    };
    let mut server = there.expect("connected");
    if loses_answers.load(Ordering::Acquire) {
        server.write_all(&stuck).await.expect("the store reads");
        let read = server.read(&mut answered).await.expect("the store answers");
        assert!(read > 0, "the store hung up");
        return;
    }
    drop(client);
    if gone.await.is_err() {
        return;
    }
    server.write_all(&stuck).await.expect("the store reads");
    // Frames come until the answer's trailers: END_STREAM on a HEADERS frame (RFC 9113, section 6.2).
    let mut frames = Vec::new();
    while !ends_a_stream(&frames) {
        let read = server.read(&mut answered).await.expect("the store answers");
        assert!(read > 0, "the store hung up");
        frames.extend_from_slice(&answered[..read]);
    }
    if arrives.send(()).is_err() {
        eprintln!("nobody waits for the held request");
    }
}

/// Whether a HEADERS frame with END_STREAM is among complete HTTP/2 frames.
fn ends_a_stream(mut bytes: &[u8]) -> bool {
    while let Some(head) = bytes.get(..9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if head[3] == 1 && head[4] & 1 == 1 {
            return true;
        }
        let Some(rest) = bytes.get(9 + length..) else { return false };
        bytes = rest;
    }
    false
}
