//! Store members as processes on loopback, for the tests of this crate: `mod processes;` and `Cluster::new(3)`.
//!
//! A member is the test binary itself, started again with [`MEMBER_FLAGS`] set, so that no other binary has to be built.
//! What members print goes to a file each ([`Cluster::log`]). Everything is killed when the [`Cluster`] is dropped.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    fs::{self, File},
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};
use xebec_proto::etcdserverpb::{
    PutRequest, RangeRequest, StatusRequest, kv_client::KvClient, maintenance_client::MaintenanceClient,
};

/// Longest wait for anything, generous because test machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Ports that members listen on.
const PORTS: Range<u16> = 10_000..30_000;
/// Pause between two looks at a condition that nothing announces.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Set for a process that is to be a member instead of running tests; holds its flags, one a line.
const MEMBER_FLAGS: &str = "XEBEC_TEST_MEMBER_FLAGS";

#[derive(clap::Parser)]
struct Member {
    #[command(flatten)]
    flags: xebec_store::Flags,
}

/// Not a test of its own: the body of the processes that the tests start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_process() {
    let Ok(flags) = std::env::var(MEMBER_FLAGS) else {
        return;
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let member: Member = match clap::Parser::try_parse_from(std::iter::once("store").chain(flags.lines())) {
        Ok(member) => member,
        Err(error) => {
            eprintln!("member: {error}");
            std::process::exit(2);
        }
    };
    let code = match xebec_store::run(member.flags, CancellationToken::new()).await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("member: {error}");
            1
        }
    };
    std::process::exit(code);
}

/// Members `m0`, `m1`, ... by number. A number keeps its ports and its data directory through restarts.
pub struct Cluster {
    pub dir: TempDir,
    pub clients: Vec<u16>,
    pub peers: Vec<u16>,
    pub members: Vec<Option<Child>>,
    /// Added to every member's flags; a later flag does not replace an earlier one, so name only what is not set here.
    pub more_flags: Vec<String>,
}

/// Ports nobody listens on right now, each given out once by this process. They lie below those that the system gives to
/// outgoing connections, which would take them while a member is down.
pub fn free_ports(count: usize) -> Vec<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let ports = u32::from(PORTS.end - PORTS.start);
    // Test binaries that run at the same time begin apart.
    let first = std::process::id().wrapping_mul(997);
    let candidates = std::iter::repeat_with(|| {
        let number = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % ports;
        PORTS.start + u16::try_from(number).unwrap()
    });
    candidates.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(count).collect()
}

/// Starts a member with just these flags; what it prints is appended to `log`. The caller kills it.
pub fn spawn(flags: &[String], log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::member_process", "--nocapture"])
        .env(MEMBER_FLAGS, flags.join("\n"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Cluster {
    /// Starts a new cluster of `size` members.
    pub fn new(size: usize) -> Self {
        Self::with_flags(size, &[])
    }

    /// Starts a new cluster whose members have further flags.
    pub fn with_flags(size: usize, more_flags: &[&str]) -> Self {
        let mut cluster = Self::prepared(size, more_flags);
        (0..size).for_each(|number| cluster.start(number));
        cluster
    }

    /// A cluster of `size` members, none of them started.
    pub fn prepared(size: usize, more_flags: &[&str]) -> Self {
        let mut cluster = Self {
            dir: TempDir::new().unwrap(),
            clients: Vec::new(),
            peers: Vec::new(),
            members: Vec::new(),
            more_flags: more_flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        for _ in 0..size {
            cluster.add_slot();
        }
        cluster
    }

    /// Room for one more member: its number. Nothing is started.
    pub fn add_slot(&mut self) -> usize {
        let ports = free_ports(2);
        self.clients.push(ports[0]);
        self.peers.push(ports[1]);
        self.members.push(None);
        self.members.len() - 1
    }

    pub fn client_url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.clients[number])
    }

    pub fn peer_url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.peers[number])
    }

    /// `--initial-cluster` of these members.
    pub fn initial_cluster(&self, numbers: impl IntoIterator<Item = usize>) -> String {
        let members: Vec<String> =
            numbers.into_iter().map(|number| format!("m{number}={}", self.peer_url(number))).collect();
        members.join(",")
    }

    pub fn data_dir(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("m{number}"))
    }

    /// Starts a member of a new cluster of all slots.
    pub fn start(&mut self, number: usize) {
        let initial = self.initial_cluster(0..self.members.len());
        self.start_with(number, &[format!("--initial-cluster={initial}")]);
    }

    /// Starts a member that joins a running cluster of these members, itself included.
    pub fn join(&mut self, number: usize, members: &[usize]) {
        let initial = self.initial_cluster(members.iter().copied());
        let flags = [format!("--initial-cluster={initial}"), "--initial-cluster-state=existing".to_owned()];
        self.start_with(number, &flags);
    }

    /// Starts a member with its own addresses and directory, and these flags.
    pub fn start_with(&mut self, number: usize, flags: &[String]) {
        let client = self.client_url(number);
        let peer = self.peer_url(number);
        let mut all = vec![
            format!("--name=m{number}"),
            format!("--data-dir={}", self.data_dir(number).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
        ];
        all.extend(flags.iter().cloned());
        all.extend(self.more_flags.iter().cloned());
        self.members[number] = Some(spawn(&all, &self.log_path(number)));
    }

    fn log_path(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("m{number}.log"))
    }

    /// What a member has printed since its first start.
    pub fn log(&self, number: usize) -> String {
        fs::read_to_string(self.log_path(number)).unwrap_or_default()
    }

    /// Kills a member, as `kill -9` does.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.members[number].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops a member's process until [`Cluster::resume`].
    pub fn pause(&self, number: usize) {
        self.signal(number, "STOP");
    }

    pub fn resume(&self, number: usize) {
        self.signal(number, "CONT");
    }

    fn signal(&self, number: usize, name: &str) {
        let child = self.members[number].as_ref().unwrap();
        let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until a member's process has ended by itself.
    pub async fn ended(&mut self, number: usize) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        loop {
            let child = self.members[number].as_mut().unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                self.members[number] = None;
                return status;
            }
            assert!(Instant::now() < deadline, "member {number} goes on:\n{}", self.log(number));
            looks.tick().await;
        }
    }

    pub fn channel(&self, number: usize) -> Channel {
        Channel::from_shared(self.client_url(number)).unwrap().connect_lazy()
    }

    /// Waits until that member serves linearizable reads.
    pub async fn ready(&self, number: usize) {
        let mut kv = KvClient::new(self.channel(number));
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        while let Err(status) = kv.range(get(b"nothing")).await {
            assert!(Instant::now() < deadline, "member {number}: {status}\n{}", self.log(number));
            looks.tick().await;
        }
    }

    /// Writes as a client does that wants it written: whoever loses its leader leaves the fate of a put open, and the same
    /// put once more does no harm.
    pub async fn write(&self, number: usize, key: &str, value: &[u8]) {
        let mut kv = KvClient::new(self.channel(number));
        while let Err(status) = kv.put(put(key.as_bytes(), value)).await {
            assert_eq!(status.code(), Code::Unavailable, "{key} at member {number}: {status}");
            self.ready(number).await;
        }
    }

    /// Whether a linearizable read at that member finds the key.
    pub async fn sees(&self, number: usize, key: &str) -> bool {
        let read = KvClient::new(self.channel(number)).range(get(key.as_bytes())).await.unwrap().into_inner();
        read.kvs.len() == 1
    }

    /// Waits until one of the running members says that it leads.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let mut looks = interval(LOOK_AGAIN);
        loop {
            for number in 0..self.members.len() {
                let mut maintenance = MaintenanceClient::new(self.channel(number));
                if self.members[number].is_some()
                    && let Ok(status) = maintenance.status(StatusRequest {}).await
                    && status.get_ref().leader == status.get_ref().header.as_ref().unwrap().member_id
                {
                    return number;
                }
            }
            assert!(Instant::now() < deadline, "no leader");
            looks.tick().await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for number in 0..self.members.len() {
                eprintln!("--- member {number}\n{}", self.log(number));
            }
        }
        (0..self.members.len()).for_each(|number| self.kill(number));
    }
}

/// Looks until the condition holds.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = interval(LOOK_AGAIN);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        looks.tick().await;
    }
}

pub fn get(key: &[u8]) -> RangeRequest {
    RangeRequest { key: Bytes::copy_from_slice(key), ..Default::default() }
}

pub fn put(key: &[u8], value: &[u8]) -> PutRequest {
    PutRequest { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value), ..Default::default() }
}
