//! openraft's state machine: the keyspace, and everyone who follows it.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, Snapshot,
    alias::SnapshotOf,
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use tokio::sync::{Notify, oneshot, watch};
use xebec_store_core::{Applied, Command, ReadView, Response, Revision, Write, apply_all};
use xebec_store_disk::Keyspace;
use xebec_store_log::{Durations, Log};

use crate::{
    blocking::blocking,
    feed::Feed,
    leases::LeaseDesk,
    log_store::StoredEntry,
    room::{Waiting, disk_error},
    roster::{self, Roster},
    snapshot::{SnapshotData, SnapshotFiles, TemporaryDir},
    surroundings::Retention,
    types::{Entry, LogId, Outcomes, SnapshotMeta, StoredMembership, TypeConfig, log_id, position},
    wire,
};

/// Commands committed to the keyspace at once.
const COMMIT_COMMANDS_MAX: usize = 8_192;

/// What the state machine and its blocking work share.
pub(crate) struct Machine {
    pub keyspace: Arc<Keyspace>,
    pub log: Log<StoredEntry>,
    pub feed: Arc<Feed>,
    pub leases: Arc<LeaseDesk>,
    /// The members, as of the last applied entry.
    pub roster: watch::Sender<Arc<Roster>>,
    pub retention: Retention,
    /// Where checkpoints are made and received.
    pub snapshots_dir: PathBuf,
    /// Before this, openraft only looks around.
    pub running: AtomicBool,
    /// Told when old versions may be removed.
    pub compacted: Notify,
    /// Told when the log is worth compacting.
    pub log_grown: Notify,
    pub applied_entries: AtomicU64,
    pub applied_bytes: AtomicU64,
    pub snapshot_number: AtomicU64,
    /// How long commits to the keyspace take.
    pub commits: Durations,
    /// Who waits for space on the keyspace's disk.
    pub waiting: Waiting,
}

#[derive(Clone)]
pub(crate) struct StateMachine(pub Arc<Machine>);

impl Machine {
    /// Commits consecutive entries, of which only the last may be a membership; their outcomes, where `wanted`, come back in
    /// order. For want of space ([`io::ErrorKind::StorageFull`]) it fails without having changed anything.
    fn commit(&self, entries: &[Entry], wanted: bool) -> Result<Vec<Outcomes>, io::Error> {
        self.waiting.admit()?;
        let Some(last) = entries.last() else {
            return Ok(Vec::new());
        };
        let view = self.keyspace.view();
        let mut applied = apply_all(&*view, entries.iter().flat_map(commands)).map_err(io::Error::other)?;
        let revision = applied.last().map_or(view.current_revision(), |applied| applied.revision);
        drop(view);
        let membership = self.membership(last, revision, &mut applied)?;
        // Evidence for the next start, see `LogEnd`.
        self.keyspace.note_log_kept(self.log.flushed_index());
        let begun = Instant::now();
        self.keyspace.commit(position(&last.log_id), membership.as_deref(), &applied).map_err(disk_error)?;
        self.commits.observe(begun.elapsed());
        if roster::concerns(entries.iter()) {
            self.publish_roster()?;
        }
        self.publish(last, &applied);
        let mut results = applied.into_iter().map(|applied| applied.result);
        if !wanted {
            return Ok(Vec::new());
        }
        Ok(entries.iter().map(|entry| Outcomes(results.by_ref().take(commands(entry).count()).collect())).collect())
    }

    /// The membership that this entry is, encoded; what goes with it is added to `applied`.
    fn membership(
        &self,
        entry: &Entry,
        revision: Revision,
        applied: &mut Vec<Applied>,
    ) -> Result<Option<Vec<u8>>, io::Error> {
        let EntryPayload::Membership(new) = &entry.payload else {
            return Ok(None);
        };
        let known = self.applied_state()?.1;
        let new = StoredMembership::new(Some(entry.log_id), new.clone());
        let writes = roster::departures(&known, &new);
        if !writes.is_empty() {
            let result = Ok(Response::ClusterRecord);
            applied.push(Applied { revision, result, writes, events: Vec::new() });
        }
        wire::encode(&new).map(Some).map_err(io::Error::other)
    }

    /// Lets everyone know who the members are.
    pub fn publish_roster(&self) -> Result<(), io::Error> {
        let roster = Roster::read(&self.keyspace.view()).map_err(io::Error::other)?;
        self.roster.send_replace(Arc::new(roster));
        Ok(())
    }

    /// Tells watchers, the lease table and waiting readers.
    fn publish(&self, last: &Entry, applied: &[Applied]) {
        self.feed.change_events(|events| applied.iter().for_each(|applied| events.append(applied)));
        self.leases.observe(applied);
        let revision = self.keyspace.view().current_revision();
        self.feed.publish(revision, last.log_id.index);
        let compacts = |applied: &Applied| applied.writes.iter().any(|write| matches!(write, Write::Compact(_)));
        if applied.iter().any(compacts) {
            self.compacted.notify_one();
        }
    }

    /// Counts what was applied and asks for a snapshot when the log has grown.
    fn note_growth(&self, entries: u64, bytes: u64) {
        let entries = self.applied_entries.fetch_add(entries, Ordering::Relaxed) + entries;
        let bytes = self.applied_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if entries > self.retention.snapshot_entries || bytes > self.retention.snapshot_bytes {
            self.applied_entries.store(0, Ordering::Relaxed);
            self.applied_bytes.store(0, Ordering::Relaxed);
            self.log_grown.notify_one();
        }
    }

    fn applied_state(&self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let (position, membership) = self.keyspace.applied().map_err(io::Error::other)?;
        let membership = match membership {
            Some(bytes) => wire::decode(&bytes).map_err(io::Error::other)?,
            None => StoredMembership::default(),
        };
        Ok((position.as_ref().map(log_id), membership))
    }

    /// A snapshot without files: the keyspace itself.
    fn make_durable(&self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        self.waiting.admit()?;
        let (last_log_id, last_membership) = self.applied_state()?;
        self.keyspace.make_durable().map_err(disk_error)?;
        let meta = SnapshotMeta { last_log_id, last_membership };
        Ok(Snapshot { meta, snapshot: SnapshotData(None) })
    }

    fn checkpoint(&self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        self.waiting.admit()?;
        fs::create_dir_all(&self.snapshots_dir)?;
        let dir = TemporaryDir(self.next_snapshot_dir("checkpoint"));
        let checkpoint = self.keyspace.checkpoint(&dir.0).map_err(disk_error)?;
        let last_membership = match &checkpoint.membership {
            Some(bytes) => wire::decode(bytes).map_err(io::Error::other)?,
            None => StoredMembership::default(),
        };
        let meta = SnapshotMeta { last_log_id: checkpoint.position.as_ref().map(log_id), last_membership };
        Ok(Snapshot { meta, snapshot: SnapshotData(Some(Arc::new(SnapshotFiles { dir, checkpoint }))) })
    }

    /// A directory name that was not used since the start.
    pub fn next_snapshot_dir(&self, kind: &str) -> PathBuf {
        let number = self.snapshot_number.fetch_add(1, Ordering::Relaxed);
        self.snapshots_dir.join(format!("{kind}-{number}"))
    }

    fn install(&self, files: &SnapshotFiles) -> Result<(), io::Error> {
        self.waiting.admit()?;
        self.keyspace.install_checkpoint(&files.dir.0, &files.checkpoint).map_err(disk_error)?;
        let view = self.keyspace.view();
        let revision = view.current_revision();
        self.publish_roster()?;
        self.feed.change_events(|events| events.reset(revision));
        self.feed.publish(revision, view.position().map_or(0, |position| position.index));
        self.compacted.notify_one();
        Ok(())
    }
}

fn commands(entry: &Entry) -> impl Iterator<Item = &Command> {
    let commands: &[Command] = match &entry.payload {
        EntryPayload::Normal(batch) => &batch.0,
        EntryPayload::Blank | EntryPayload::Membership(_) => &[],
    };
    commands.iter()
}

/// What goes with a membership must not come after what follows it in the log: members that take the same entries in other
/// portions would come to other states.
fn ends_commit(entry: &Entry) -> bool {
    matches!(entry.payload, EntryPayload::Membership(_))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.0.applied_state()
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut more = true;
        while more {
            let mut chunk = Vec::new();
            let mut responders = Vec::new();
            let mut count = 0;
            let mut bytes = 0;
            more = false;
            while let Some(item) = entries.next().await {
                let (entry, responder) = item?;
                count += commands(&entry).count();
                bytes += wire::entry_weight_bytes(&entry) as u64;
                let is_last = count >= COMMIT_COMMANDS_MAX || ends_commit(&entry);
                chunk.push(entry);
                responders.push(responder);
                if is_last {
                    more = true;
                    break;
                }
            }
            let machine = self.0.clone();
            let wanted = responders.iter().any(Option::is_some);
            machine.note_growth(chunk.len() as u64, bytes);
            let chunk = Arc::new(chunk);
            let attempt = || {
                let (machine, chunk) = (machine.clone(), chunk.clone());
                async move { blocking(move || machine.commit(&chunk, wanted)).await? }
            };
            let outcomes = machine.waiting.until_room(attempt).await?;
            for (responder, outcomes) in responders.into_iter().zip(outcomes) {
                if let Some(responder) = responder {
                    responder.send(outcomes);
                }
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let Some(files) = snapshot.0 else {
            return Err(io::Error::other("the snapshot has no files"));
        };
        // From here on the log may lack what the snapshot covers, should we crash before it is purged.
        let (tx, rx) = oneshot::channel();
        let floor = meta.last_log_id.map_or(0, |id| id.index);
        self.0.log.set_floor(floor, move |result| {
            if tx.send(result).is_err() {
                tracing::debug!("nobody waits for the log's floor");
            }
        })?;
        rx.await.map_err(io::Error::other)??;
        let attempt = || {
            let (machine, files) = (self.0.clone(), files.clone());
            async move { blocking(move || machine.install(&files)).await? }
        };
        self.0.waiting.until_room(attempt).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        if !self.0.running.load(Ordering::Acquire) || self.0.keyspace.view().position().is_none() {
            return Ok(None);
        }
        let attempt = || {
            let machine = self.0.clone();
            async move { blocking(move || machine.checkpoint().map(Some)).await? }
        };
        self.0.waiting.until_room(attempt).await
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;

    /// The keyspace is its own snapshot once it is durable; a checkpoint is made when a follower needs one.
    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        let attempt = || {
            let machine = self.0.clone();
            async move { blocking(move || machine.make_durable()).await? }
        };
        self.0.waiting.until_room(attempt).await
    }
}
