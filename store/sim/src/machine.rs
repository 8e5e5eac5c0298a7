//! A simulated machine with a member on it: a runtime, a clock, a disk for the log and a directory for the keyspace.
//!
//! The keyspace is the real one, on RocksDB in a directory in memory: what it has not flushed is lost at a crash, which
//! is carried out by copying the directory as it is and starting on the copy.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time,
};
use xebec_store::Flags;
use xebec_store_core::EventLogOptions;
use xebec_store_disk::TABLE_BYTES_MAX;
use xebec_store_raft::{
    Member, MemberConfig, PeerService, ReconfigurationLimits, Retention, Room, StartError, Surroundings, start_here,
};

use xebec_store_dice::Dice;

use crate::{
    disk::{Damage, DiskSpeed, Ending, SimDisk},
    network::{Host, HostId, Network, Port},
};

/// Milliseconds between heartbeats: the store's default.
pub const HEARTBEAT_MILLIS: u64 = xebec_store_raft::HEARTBEAT_MILLIS_DEFAULT;
/// Milliseconds of silence before an election: the store's default.
pub const ELECTION_MILLIS: u64 = xebec_store_raft::ELECTION_MILLIS_DEFAULT;
/// Seconds between periodic progress notifications.
const PROGRESS_SECONDS: u64 = 2;
/// Syncs of a healthy disk.
pub const HEALTHY: DiskSpeed = DiskSpeed { sync_micros_min: 300, sync_micros_max: 3_000 };
/// Times copying a directory is begun again because RocksDB was at work in it.
const COPY_ATTEMPTS_MAX: usize = 50;

/// So little is kept that every run purges, sends snapshots and reads history from disk.
const SMALL: Retention = Retention {
    snapshot_entries: 150,
    snapshot_bytes: 1 << 20,
    log_kept_bytes: 6 << 10,
    segment_bytes_max: 4 << 10,
    log_cache_bytes_max: 2 << 10,
    events: EventLogOptions { bytes_max: 16 << 10, revisions_max: 64 },
};

/// Whether the keyspace's disk is full. The keyspace itself is on a real one that never is: what it is spared is RocksDB's
/// part in this.
#[derive(Debug, Clone, Default)]
struct KeyspaceRoom(Arc<AtomicBool>);

impl Room for KeyspaceRoom {
    fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn make(&self) -> io::Result<bool> {
        Ok(!self.is_full())
    }
}

/// What the machine's member is doing.
enum Life {
    Down,
    Starting(Runtime, JoinHandle<Result<Member, StartError>>),
    Up(Runtime, Member),
}

/// A machine.
pub struct Machine {
    /// Its number, and its host's.
    pub id: HostId,
    /// The cluster's first members with their peer URLs; who joins later is told the members there are.
    initial: BTreeMap<String, Vec<String>>,
    is_new_cluster: bool,
    machines: usize,
    base: PathBuf,
    boot: u64,
    /// The log's disk.
    pub disk: SimDisk,
    keyspace_room: KeyspaceRoom,
    network: Network,
    life: Life,
    /// How much its clock runs ahead in a million: drift.
    pub drift_per_million: i64,
    clock_debt_micros: i64,
    /// Stopped until this simulated millisecond.
    pub paused_until_millis: u64,
    pause_jump_millis: u64,
}

/// What came of a machine in a step.
#[derive(Debug)]
pub enum Happened {
    /// Nothing of note.
    Nothing,
    /// The member is up.
    Started,
    /// The member refused to start.
    Refused(StartError),
    /// Raft stopped by itself.
    Stopped(String),
}

impl Machine {
    /// A machine that is switched off, one of so many, with so many first members.
    #[must_use]
    pub fn new(id: HostId, machines: usize, members: usize, base: &Path, network: Network, dice: Dice) -> Self {
        Self {
            id,
            initial: initial_cluster(0..members),
            is_new_cluster: true,
            machines,
            base: base.join(format!("m{id}")),
            boot: 0,
            disk: SimDisk::new(dice, HEALTHY),
            keyspace_room: KeyspaceRoom::default(),
            network,
            life: Life::Down,
            drift_per_million: 0,
            clock_debt_micros: 0,
            paused_until_millis: 0,
            pause_jump_millis: 0,
        }
    }

    fn dir(&self) -> PathBuf {
        self.base.join(format!("boot-{}", self.boot))
    }

    /// The member, if it is up.
    #[must_use]
    pub fn member(&self) -> Option<&Member> {
        match &self.life {
            Life::Up(_, member) => Some(member),
            Life::Down | Life::Starting(..) => None,
        }
    }

    /// The runtime the member is up on.
    #[must_use]
    pub fn runtime(&self) -> Option<&Runtime> {
        match &self.life {
            Life::Up(runtime, _) => Some(runtime),
            Life::Down | Life::Starting(..) => None,
        }
    }

    /// Whether nothing runs.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.life, Life::Down)
    }

    /// Starts since the beginning.
    #[must_use]
    pub fn boots(&self) -> u64 {
        self.boot
    }

    /// From now on this machine's member joins the cluster of these.
    pub fn join(&mut self, members: impl Iterator<Item = HostId>) {
        self.initial = initial_cluster(members);
        self.is_new_cluster = false;
    }

    /// Everything on the machine, which is switched off, is removed.
    ///
    /// # Errors
    /// If the host cannot remove it.
    pub fn wipe(&mut self, dice: Dice) -> io::Result<()> {
        if self.dir().exists() {
            fs::remove_dir_all(self.dir())?;
        }
        self.disk = SimDisk::new(dice, HEALTHY);
        self.boot += 1;
        self.drift_per_million = 0;
        Ok(())
    }

    /// Switches the machine on.
    ///
    /// # Errors
    /// If the host cannot make a directory.
    pub fn start(&mut self) -> io::Result<()> {
        fs::create_dir_all(self.dir())?;
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let (network, from, machines) = (self.network.clone(), self.id, self.machines);
        let config = MemberConfig {
            name: name_of(self.id),
            data_dir: self.dir(),
            initial_cluster: self.initial.clone(),
            is_new_cluster: self.is_new_cluster,
            force_new_cluster: false,
            limits: ReconfigurationLimits { is_strict: true, learners_max: 1 },
            token: "simulation".to_owned(),
            heartbeat_millis: HEARTBEAT_MILLIS,
            election_millis: ELECTION_MILLIS,
            dialer: Arc::new(move |urls: &[String]| {
                let url = urls.first().ok_or("no URL")?;
                let to = number_in(url).filter(|number| *number < machines).ok_or("unknown host")?;
                Ok(network.transport(from, to, Port::Peer))
            }),
        };
        let surroundings = Surroundings {
            log_files: Arc::new(self.disk.clone()),
            retention: SMALL,
            compacts_inline: true,
            table_bytes_max: TABLE_BYTES_MAX,
            room: Arc::new(self.keyspace_room.clone()),
        };
        let starting = runtime.spawn(start_here(config, surroundings));
        self.life = Life::Starting(runtime, starting);
        Ok(())
    }

    /// Lets one simulated millisecond pass.
    pub fn advance(&mut self, now_millis: u64) -> Happened {
        self.disk_works(now_millis);
        if now_millis < self.paused_until_millis {
            return Happened::Nothing;
        }
        self.clock_debt_micros += 1_000 + self.drift_per_million / 1_000;
        let millis = u64::try_from(self.clock_debt_micros / 1_000).unwrap_or(0);
        self.clock_debt_micros -= millis as i64 * 1_000;
        let jump = std::mem::take(&mut self.pause_jump_millis);
        match std::mem::replace(&mut self.life, Life::Down) {
            Life::Down => Happened::Nothing,
            Life::Up(runtime, member) => {
                pass(&runtime, jump, millis);
                let failed = member.status().failed;
                self.life = Life::Up(runtime, member);
                failed.map_or(Happened::Nothing, Happened::Stopped)
            }
            Life::Starting(runtime, starting) => {
                pass(&runtime, jump, millis);
                if !starting.is_finished() {
                    self.life = Life::Starting(runtime, starting);
                    return Happened::Nothing;
                }
                match runtime.block_on(starting) {
                    Ok(Ok(member)) => {
                        if let Err(error) = self.serve(&runtime, &member) {
                            return Happened::Refused(StartError::Config(error.to_string()));
                        }
                        self.life = Life::Up(runtime, member);
                        Happened::Started
                    }
                    Ok(Err(error)) => Happened::Refused(error),
                    Err(error) => Happened::Refused(StartError::Raft(error.to_string())),
                }
            }
        }
    }

    /// A stopped process's disk still finishes what it was given, but tells nobody.
    fn disk_works(&mut self, now_millis: u64) {
        if now_millis < self.paused_until_millis {
            return;
        }
        match &self.life {
            Life::Down => {}
            Life::Starting(runtime, _) | Life::Up(runtime, _) => {
                let entered = runtime.enter();
                self.disk.advance(now_millis * 1_000);
                drop(entered);
            }
        }
    }

    fn serve(&self, runtime: &Runtime, member: &Member) -> Result<(), xebec_store::Error> {
        let host = Host {
            runtime: runtime.handle().clone(),
            peer: PeerService::routes(member).into_axum_router(),
            client: xebec_store::client_services(member, &flags())?,
        };
        self.network.up(self.id, host);
        let (published, name) = (member.clone(), name_of(self.id));
        runtime.spawn(async move { published.publish(&name, &[format!("http://{name}:2379")]).await });
        Ok(())
    }

    /// Stops the process for a while; its clock goes on unless the whole machine was stopped.
    pub fn pause(&mut self, now_millis: u64, millis: u64, clock_goes_on: bool) {
        self.paused_until_millis = now_millis + millis;
        self.pause_jump_millis += if clock_goes_on { millis } else { 0 };
    }

    /// Whether the keyspace's disk is full from now on, until it is told otherwise or the member ends.
    pub fn set_keyspace_full(&self, is_full: bool) {
        self.keyspace_room.0.store(is_full, Ordering::Relaxed);
    }

    /// The clock jumps ahead.
    pub fn jump(&mut self, millis: u64) {
        self.pause_jump_millis += millis;
    }

    /// The member dies.
    ///
    /// # Errors
    /// If the keyspace's directory cannot be copied.
    pub fn crash(&mut self, ending: Ending, silently: bool) -> io::Result<Damage> {
        let next = self.base.join(format!("boot-{}", self.boot + 1));
        let old = self.dir();
        fs::create_dir_all(&next)?;
        // Whoever cannot find the cluster to join has written nothing yet.
        if old.join("member").exists() {
            copy_whole(&old.join("member"), &next.join("member"))?;
        }
        self.network.down(self.id, silently);
        let damage = self.disk.crash(ending);
        self.set_keyspace_full(false);
        // Everything the member had in memory goes with its runtime.
        drop(std::mem::replace(&mut self.life, Life::Down));
        self.boot += 1;
        self.paused_until_millis = 0;
        self.pause_jump_millis = 0;
        fs::remove_dir_all(&old)?;
        Ok(damage)
    }

    /// Where the keyspace lies.
    #[must_use]
    pub fn keyspace_dir(&self) -> PathBuf {
        self.dir().join("member/keyspace")
    }
}

fn name_of(machine: HostId) -> String {
    format!("m{machine}")
}

/// Where a machine's member is reached by its peers.
#[must_use]
pub fn peer_url(machine: HostId) -> String {
    format!("http://{}:2380", name_of(machine))
}

/// The machine of a [`peer_url`].
#[must_use]
pub fn number_in(url: &str) -> Option<HostId> {
    url.strip_prefix("http://m")?.strip_suffix(":2380")?.parse().ok()
}

fn initial_cluster(machines: impl Iterator<Item = HostId>) -> BTreeMap<String, Vec<String>> {
    machines.map(|machine| (name_of(machine), vec![peer_url(machine)])).collect()
}

/// The store's default flags, without a quota, and with progress to be seen.
fn flags() -> Flags {
    #[derive(clap::Parser)]
    struct Store {
        #[command(flatten)]
        flags: Flags,
    }
    let progress = format!("--watch-progress-notify-interval={PROGRESS_SECONDS}s");
    <Store as clap::Parser>::parse_from(["store", "--quota-backend-bytes=0", &progress]).flags
}

/// Lets a runtime's clock jump, and then the runtime work for so many of its milliseconds.
fn pass(runtime: &Runtime, jump: u64, millis: u64) {
    runtime.block_on(async {
        if jump > 0 {
            time::advance(Duration::from_millis(jump)).await;
        }
        if millis == 0 {
            tokio::task::yield_now().await;
        } else {
            time::sleep(Duration::from_millis(millis)).await;
        }
    });
}

/// Copies a directory of a running database: again while its files change. The manifest first, so that what it names is
/// copied after it.
fn copy_whole(from: &Path, to: &Path) -> io::Result<()> {
    let mut attempt = 1;
    loop {
        match copy(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < COPY_ATTEMPTS_MAX => {
                if to.exists() {
                    fs::remove_dir_all(to)?;
                }
                attempt += 1;
            }
            copied => return copied,
        }
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries = fs::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
    let is_table = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".sst");
    entries.sort_by_key(|entry| (is_table(&entry.file_name()), entry.file_name()));
    for entry in entries {
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            if name != "snapshots" {
                copy(&entry.path(), &target)?;
            }
        } else if name != "LOCK" && !name.to_string_lossy().starts_with("LOG") {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
