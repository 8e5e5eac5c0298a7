//! From a configuration to a running member.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use xebec_store_core::ReadView;
use xebec_store_disk::{Keyspace, Options};
use xebec_store_log::{Durations, Log, LogOptions, make_dirs};

use crate::{
    admission::{Joined, find_cluster},
    blocking::blocking,
    departure::{Departure, REMOVED},
    error::StartError,
    feed::Feed,
    forced,
    identity::{Identity, Passport, Stage, cluster_id, member_dir, member_id},
    leases::LeaseDesk,
    log_store::{LogStore, StoredEntry},
    member::{Inner, Member, Queues},
    network::Network,
    papers::Papers,
    peers::{Dialer, Peers},
    proposer::PROPOSALS_WAITING_MAX,
    quorum::Heard,
    reader::READERS_WAITING_MAX,
    reconfiguration::ReconfigurationLimits,
    renewals::RENEWALS_WAITING_MAX,
    reserve::{Reserve, ReservedFiles},
    room::Waiting,
    roster::Roster,
    state_machine::{Machine, StateMachine},
    surroundings::Surroundings,
    types::{MemberId, MemberNode},
};

/// Milliseconds between heartbeats, unless told otherwise.
pub const HEARTBEAT_MILLIS_DEFAULT: u64 = 50;
/// Milliseconds of silence after which a follower stands for election, unless told otherwise.
pub const ELECTION_MILLIS_DEFAULT: u64 = 400;
/// Directories of a member's data.
const LOG_DIR: &str = "log";
const KEYSPACE_DIR: &str = "keyspace";
/// Threads of Raft's runtime, where there are cores for them. One may be busy while the other sends heartbeats.
const RAFT_THREADS_MAX: usize = 2;
/// Threads of Raft's runtime that may block on disks.
const BLOCKING_THREADS_MAX: usize = 16;
/// Entries sent to a follower in one message.
const ENTRIES_PER_MESSAGE_MAX: u64 = 64;

/// What a member needs to know to start.
#[derive(Clone)]
pub struct MemberConfig {
    /// This member's name.
    pub name: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// The cluster's first members with their peer URLs, this one among them.
    pub initial_cluster: BTreeMap<String, Vec<String>>,
    /// Whether this cluster begins with these members, as opposed to one that is joined.
    pub is_new_cluster: bool,
    /// Whether this member is to go on alone: all others are removed (etcd `--force-new-cluster`).
    pub force_new_cluster: bool,
    /// What membership changes are refused.
    pub limits: ReconfigurationLimits,
    /// Distinguishes clusters of equal members.
    pub token: String,
    /// Milliseconds between heartbeats.
    pub heartbeat_millis: u64,
    /// Milliseconds of silence after which a follower stands for election.
    pub election_millis: u64,
    /// Opens channels to the other members.
    pub dialer: Dialer,
}

/// Starts a member: opens its data, refuses what is damaged, and joins its peers.
///
/// # Errors
/// See [`StartError`].
pub async fn start(config: MemberConfig) -> Result<Member, StartError> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(raft_threads())
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("raft")
        .enable_all()
        .build()
        .map_err(|error| StartError::Raft(error.to_string()))?;
    let handle = runtime.handle().clone();
    let reserve = Reserve::of(&config.data_dir);
    let making_room = reserve.clone();
    match blocking(move || making_room.make_room_to_start()).await {
        Ok(Ok(())) => {}
        // What comes next says better what does not work.
        Ok(Err(error)) => tracing::warn!(%error, "no room could be made to start"),
        Err(error) => tracing::warn!(%error, "no room could be made to start"),
    }
    let surroundings = Surroundings::on_disk(reserve.disk_bytes());
    let log_files = Arc::new(ReservedFiles::new(reserve.clone()));
    let surroundings = Surroundings { log_files, room: Arc::new(reserve), ..surroundings };
    let started = handle.spawn(start_on(config, surroundings, RuntimeGuard(Some(runtime)))).await;
    started.map_err(|error| StartError::Raft(error.to_string()))?
}

/// On one or two cores a second thread costs more in switches than it gives: puts rose by a sixth without it.
fn raft_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, RAFT_THREADS_MAX)
}

/// As [`start`], but on the runtime that is running, in these surroundings: for simulations.
///
/// # Errors
/// See [`StartError`].
pub async fn start_here(config: MemberConfig, surroundings: Surroundings) -> Result<Member, StartError> {
    start_on(config, surroundings, RuntimeGuard(None)).await
}

/// Shuts a runtime down without waiting if the start fails halfway.
struct RuntimeGuard(Option<Runtime>);

impl Drop for RuntimeGuard {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn start_on(
    config: MemberConfig,
    surroundings: Surroundings,
    mut runtime: RuntimeGuard,
) -> Result<Member, StartError> {
    let handle = tokio::runtime::Handle::current();
    let dir = member_dir(&config.data_dir);
    let (passport, first_members) = admit(&config, &dir).await?;
    let Identity { member, cluster } = passport.identity;
    let takes_part = passport.stage == Stage::TakesPart;
    let opening = dir.clone();
    let stop = CancellationToken::new();
    let stop_waiting = stop.clone();
    let opened = blocking(move || open(&opening, passport.identity, surroundings, stop_waiting));
    let machine = opened.await.map_err(|error| StartError::Raft(error.to_string()))??;
    let machine = Arc::new(machine);
    if config.force_new_cluster && takes_part {
        forced::leave_all_others(&machine, member).await?;
    }

    let raft_config = raft_config(&config)?;
    let departure = Arc::new(Departure::new());
    let peers = Arc::new(Peers::new(
        passport.identity,
        config.dialer.clone(),
        handle.clone(),
        machine.roster.subscribe(),
        departure.clone(),
    ));
    let raft = Raft::build(
        member,
        Arc::new(raft_config),
        Network(peers.clone()),
        LogStore::new(machine.log.clone()),
        StateMachine(machine.clone()),
    )
    .await
    .map_err(|error| StartError::Raft(error.to_string()))?;
    let (proposals, proposals_rx) = mpsc::channel(PROPOSALS_WAITING_MAX);
    let (readers, readers_rx) = mpsc::channel(READERS_WAITING_MAX);
    let (renewals, renewals_rx) = mpsc::channel(RENEWALS_WAITING_MAX);
    let this = Member::new(Inner {
        id: member,
        cluster_id: cluster,
        raft: raft.clone(),
        machine,
        peers,
        papers: Arc::new(Papers::new(dir, passport)),
        departure,
        heard: Heard::new(),
        first_members,
        limits: config.limits,
        election_timeout: Duration::from_millis(config.election_millis),
        reconfiguring: tokio::sync::Mutex::new(()),
        proposals,
        readers,
        renewals,
        leaders: watch::Sender::new(None),
        handle,
        runtime: Mutex::new(runtime.0.take()),
        stop,
    });
    this.open_for_snapshots();
    raft.run();
    this.spawn_work(Queues { proposals: proposals_rx, readers: readers_rx, renewals: renewals_rx });
    this.spawn_admission(config.is_new_cluster);
    Ok(this)
}

/// Who this member is: what its data directory says, if it has ever taken part; else what the flags or the cluster to
/// join say, with the other first members.
async fn admit(config: &MemberConfig, dir: &Path) -> Result<(Passport, BTreeMap<MemberId, MemberNode>), StartError> {
    let found = Passport::read(dir)?;
    match found.as_ref().map(|passport| passport.stage) {
        Some(Stage::TakesPart) => return Ok((found.expect("it was just looked at"), BTreeMap::new())),
        Some(Stage::Removed) => return Err(StartError::Config(REMOVED.to_owned())),
        Some(Stage::Waiting) | None => {}
    }
    let joined = if config.is_new_cluster {
        beginning(config)?
    } else {
        find_cluster(&config.dialer, &config.name, &config.initial_cluster).await?
    };
    let others = joined.members.iter().filter(|(id, _)| **id != joined.identity.member);
    let first_peers: Vec<Vec<String>> = others.map(|(_, node)| node.peer_urls.clone()).collect();
    let passport = match found {
        Some(passport) => {
            passport.check(dir, joined.identity)?;
            let now = Passport { first_peers, ..passport.clone() };
            if now != passport {
                now.write(dir)?;
            }
            now
        }
        None => {
            for part in [LOG_DIR, KEYSPACE_DIR] {
                if dir.join(part).exists() {
                    let reason = format!("the file is missing, but {part} is there");
                    return Err(StartError::File { path: dir.join("identity"), reason });
                }
            }
            let passport = Passport { first_peers, ..Passport::new(joined.identity) };
            passport.write(dir)?;
            passport
        }
    };
    Ok((passport, joined.members))
}

/// The first members as the flags have them.
fn beginning(config: &MemberConfig) -> Result<Joined, StartError> {
    let node = |name: &String, urls: &[String]| {
        let mut peer_urls = urls.to_vec();
        peer_urls.sort();
        MemberNode { name: name.clone(), peer_urls, is_voter_to_be: false }
    };
    let members: BTreeMap<MemberId, MemberNode> =
        config.initial_cluster.iter().map(|(name, urls)| (member_id(urls, &config.token), node(name, urls))).collect();
    let own = config.initial_cluster.get(&config.name).map(|urls| member_id(urls, &config.token));
    let member = own.ok_or_else(|| StartError::Config(format!("{} is not in --initial-cluster", config.name)))?;
    let cluster = cluster_id(&members.keys().copied().collect::<Vec<_>>());
    Ok(Joined { identity: Identity { member, cluster }, members })
}

fn raft_config(config: &MemberConfig) -> Result<Config, StartError> {
    // openraft waits for the leader's lease (the larger number) and then for a random time between the two: together
    // the election timeout, and a quarter more at worst.
    let election_timeout_max = config.election_millis * 5 / 8;
    let election_timeout_min = config.election_millis * 3 / 8;
    Config {
        cluster_name: config.token.clone(),
        heartbeat_interval: config.heartbeat_millis,
        election_timeout_min,
        election_timeout_max,
        enable_pre_vote: Some(true),
        // A restarted leader may lag behind what it had applied: it has to win an election first.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        // How much log is worth keeping is a matter of bytes: see `Member::shorten_log`.
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: ENTRIES_PER_MESSAGE_MAX,
        // A snapshot is sent only to those whose entries are purged.
        replication_lag_threshold: u64::MAX,
        install_snapshot_timeout: 600_000,
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        ..Config::default()
    }
    .validate()
    .map_err(|error| {
        StartError::Config(format!(
            "--heartbeat-interval {} and --election-timeout {} do not fit: {error}",
            config.heartbeat_millis, config.election_millis
        ))
    })
}

/// Where the log ends, compared with the keyspace.
///
/// Entries are applied when a majority has them on disk, this member or not, and RocksDB makes tables of what was applied
/// whenever it likes. So a member that loses its power while its own log disk is slow may find its keyspace ahead of its
/// log. That is no damage: what the log lacks, this member never acknowledged, a majority of others has it, and the
/// keyspace holds what it did; openraft goes on behind the keyspace, as after a snapshot. But a log that lacks what was
/// once on its disk was cut or replaced, and the member may have acknowledged what is gone, and votes with it. To
/// tell the two apart every commit of the keyspace carries how far the log was on disk by then (`Keyspace::log_kept`).
///
/// Making `apply` wait for the own fsync instead would rule the case out, but then one slow disk in a leader would slow
/// down every write, which is what a majority is for.
struct LogEnd {
    /// The log's last entry, purged ones included.
    last: u64,
    /// A snapshot covers everything up to here.
    floor: u64,
    has_vote: bool,
    /// The log was on disk up to here.
    kept: u64,
    applied: u64,
}

impl LogEnd {
    /// Whether the log lacks what was once on its disk.
    fn is_cut(&self) -> bool {
        let lacks = |index: u64| index > self.last && index > self.floor;
        // Whoever has applied anything has voted, or at least saved a leader's vote.
        lacks(self.kept) || (lacks(self.applied) && !self.has_vote)
    }
}

/// Opens what is on disk and checks that the parts belong together.
fn open(
    dir: &Path,
    identity: Identity,
    surroundings: Surroundings,
    stop: CancellationToken,
) -> Result<Machine, StartError> {
    let file = |path: &Path| {
        let path = path.to_path_buf();
        move |error: std::io::Error| StartError::File { path, reason: error.to_string() }
    };
    make_dirs(dir).map_err(file(dir))?;
    let snapshots_dir = dir.join("snapshots");
    if snapshots_dir.exists() {
        fs::remove_dir_all(&snapshots_dir).map_err(file(&snapshots_dir))?;
    }
    let log_dir = dir.join(LOG_DIR);
    let Surroundings { log_files, retention, compacts_inline, table_bytes_max, room } = surroundings;
    let log_options = LogOptions {
        dir: log_dir.clone(),
        segment_bytes_max: retention.segment_bytes_max,
        cache_bytes_max: retention.log_cache_bytes_max,
    };
    let log: Log<StoredEntry> = Log::open_in(log_files, log_options)?;
    let options = Options { cluster_id: identity.cluster, compacts_inline, table_bytes_max, ..Options::default() };
    let keyspace = Keyspace::open(&dir.join(KEYSPACE_DIR), options)?;
    let view = keyspace.view();
    let applied = view.position().map_or(0, |position| position.index);
    let last = log.last_index().unwrap_or(0);
    let kept = keyspace.log_kept()?;
    let end = LogEnd { last, floor: log.floor(), has_vote: log.vote().is_some(), kept, applied };
    if end.is_cut() {
        return Err(StartError::LogTooShort { log_dir, last, applied });
    }
    let feed = Feed::new(retention.events, view.current_revision(), applied);
    let roster = Roster::read(&view)
        .map_err(|error| StartError::File { path: dir.join(KEYSPACE_DIR), reason: error.to_string() })?;
    drop(view);
    Ok(Machine {
        roster: watch::Sender::new(Arc::new(roster)),
        keyspace: Arc::new(keyspace),
        log,
        feed: Arc::new(feed),
        leases: Arc::new(LeaseDesk::new()),
        retention,
        snapshots_dir,
        running: AtomicBool::new(false),
        compacted: Notify::new(),
        log_grown: Notify::new(),
        applied_entries: AtomicU64::new(0),
        applied_bytes: AtomicU64::new(0),
        snapshot_number: AtomicU64::new(0),
        commits: Durations::of_disk(),
        waiting: Waiting::new(room, stop),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING_WRONG: LogEnd = LogEnd { last: 100, floor: 0, has_vote: true, kept: 90, applied: 95 };

    #[test]
    fn a_log_may_end_before_what_was_applied_but_not_before_what_it_had_on_disk() {
        assert!(!NOTHING_WRONG.is_cut());
        // Power was lost before entries 91 to 95 were on this disk.
        assert!(!LogEnd { last: 90, ..NOTHING_WRONG }.is_cut());
        assert!(LogEnd { last: 89, ..NOTHING_WRONG }.is_cut());
        assert!(LogEnd { last: 0, ..NOTHING_WRONG }.is_cut());
        assert!(LogEnd { last: 90, has_vote: false, ..NOTHING_WRONG }.is_cut());
        // A snapshot was installed, and the log not yet purged up to it.
        assert!(!LogEnd { last: 10, floor: 95, ..NOTHING_WRONG }.is_cut());
        assert!(!LogEnd { last: 10, floor: 95, has_vote: false, ..NOTHING_WRONG }.is_cut());
    }
}
