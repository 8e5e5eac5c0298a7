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
    program: &'static str,
    child: Child,
    /// Where clients reach it.
    pub(crate) url: String,
    peer: String,
    directory: tempfile::TempDir,
}

impl Etcd {
    /// Starts one; `None` where etcd is not installed (`cargo xtask test` installs it).
    pub(crate) async fn start() -> Option<(Self, Arc<Store>)> {
        let program = ETCD.into_iter().find(|path| std::path::Path::new(path).exists())?;
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            format!("http://{}", listener.local_addr().expect("bound"))
        };
        let (url, peer, directory) = (free(), free(), empty_directory());
        let child = spawn(program, &url, &peer, &directory);
        let store = Arc::new(client(vec![url.clone()]));
        let etcd = Self { program, child, url, peer, directory };
        etcd.answers().await;
        Some((etcd, store))
    }

    /// What a restore of its very first snapshot would make of it.
    pub(crate) async fn lose_everything(&mut self) {
        self.stop();
        self.directory = empty_directory();
        self.child = spawn(self.program, &self.url, &self.peer, &self.directory);
        self.answers().await;
    }

    async fn answers(&self) {
        let store = client(vec![self.url.clone()]);
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        while store.current_revision().await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "etcd did not start");
        }
    }

    fn stop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            eprintln!("etcd: {error}");
        }
    }
}

fn empty_directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn spawn(program: &str, url: &str, peer: &str, directory: &tempfile::TempDir) -> Child {
    Command::new(program)
        .args(["--name", "test", "--listen-client-urls", url, "--advertise-client-urls", url])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", &format!("test={peer}"), "--unsafe-no-fsync"])
        .arg("--data-dir")
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd starts")
}

/// A client of these endpoints, the first one preferred.
pub(crate) fn client(servers: Vec<String>) -> Store {
    let config = StoreConfig { servers, ca: None, cert: None, key: None, identity: "127.0.0.1:6443".into() };
    Store::new(&config).expect("a store client")
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection to the store on which the first request that names a certain key gets stuck. Unless told otherwise, the
/// client sees a broken connection, and the store sees the request when it is [let go](Self::let_go).
pub(crate) struct Held {
    keeps_answers: Arc<AtomicBool>,
    go: Option<oneshot::Sender<()>>,
    answered: Option<oneshot::Receiver<()>>,
}

/// The key whose request gets stuck.
const MARKER: &str = "/r/held-up";

impl Held {
    /// Listens before `server`; the URL to reach it by.
    pub(crate) async fn before(server: &str) -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let keeps_answers = Arc::new(AtomicBool::new(false));
        let ((go, gone), (answers, answered)) = (oneshot::channel(), oneshot::channel());
        tokio::spawn(hold_up(listener, server.to_owned(), Arc::clone(&keeps_answers), gone, answers));
        (Self { keeps_answers, go: Some(go), answered: Some(answered) }, url)
    }

    pub(crate) fn marker(&self) -> String {
        MARKER.to_owned()
    }

    /// Lets the request arrive, and waits until the store has answered it.
    pub(crate) async fn let_go(&mut self) {
        self.go.take().expect("held").send(()).expect("somebody holds it");
        self.has_answered().await;
    }

    /// The request arrives at once; it is its answer that nobody gets. The client waits until this one
    /// [hangs up](Self::hang_up).
    pub(crate) fn keep_answers(&mut self) {
        self.keeps_answers.store(true, Ordering::Release);
    }

    /// Waits until the store has answered the request.
    pub(crate) async fn has_answered(&mut self) {
        self.answered.take().expect("held").await.expect("an answer of the store");
    }

    /// Breaks the client's connection.
    pub(crate) fn hang_up(&mut self) {
        self.go.take().expect("held").send(()).expect("somebody keeps the answer");
    }
}

async fn hold_up(
    listener: tokio::net::TcpListener,
    server: String,
    keeps_answers: Arc<AtomicBool>,
    gone: oneshot::Receiver<()>,
    answers: oneshot::Sender<()>,
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
    if keeps_answers.load(Ordering::Acquire) {
        arrive(&mut server, &stuck).await;
        tell(answers);
        if gone.await.is_err() {
            eprintln!("nobody told when to hang up");
        }
        return;
    }
    drop(client);
    if gone.await.is_err() {
        return;
    }
    arrive(&mut server, &stuck).await;
    tell(answers);
}

/// Sends what was stuck, and waits for the end of the answer.
async fn arrive(server: &mut tokio::net::TcpStream, stuck: &[u8]) {
    server.write_all(stuck).await.expect("the store reads");
    // Frames come until the answer's trailers: END_STREAM on a HEADERS frame (RFC 9113, section 6.2).
    let (mut frames, mut answered) = (Vec::new(), vec![0; 64 * 1024]);
    while !ends_a_stream(&frames) {
        let read = server.read(&mut answered).await.expect("the store answers");
        assert!(read > 0, "the store hung up");
        frames.extend_from_slice(&answered[..read]);
    }
}

fn tell(answers: oneshot::Sender<()>) {
    if answers.send(()).is_err() {
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
