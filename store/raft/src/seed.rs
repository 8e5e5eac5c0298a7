//! A data directory made from outside of Raft: what restoring a snapshot leaves behind.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::mpsc,
};

use openraft::Membership;
use xebec_store_core::Revision;
use xebec_store_disk::{DiskError, Keyspace, Loaded, Loader, Options};
use xebec_store_log::{Log, LogError, LogOptions, make_dirs};

use crate::{
    identity::{Identity, Passport, Stage, cluster_id, member_id},
    log_store::StoredEntry,
    types::{LogId, MemberId, MemberNode, StoredMembership, position},
    wire::{self, WireError},
};

/// Where a planted member's log begins: everything up to here is in the keyspace, so that whoever joins later is sent
/// the keyspace, and cannot mistake it for an empty one.
const FIRST_INDEX: u64 = 1;
const FIRST_TERM: u64 = 1;
/// Where the directory grows before it counts.
const UNFINISHED: &str = "member.unfinished";

/// A new cluster's member whose keyspace is known beforehand. All members of the cluster must be planted with the same
/// keyspace and the same cluster.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The member's `--data-dir`: missing or empty.
    pub data_dir: PathBuf,
    /// The member's name.
    pub name: String,
    /// The cluster's members with their peer URLs, this one among them.
    pub initial_cluster: BTreeMap<String, Vec<String>>,
    /// Distinguishes this cluster from any other of equal members.
    pub token: String,
}

/// What a keyspace is filled up to.
#[derive(Clone, Copy, Debug)]
pub struct SeedRevisions {
    /// Its revision, if that is above the last version's.
    pub revision: Revision,
    /// Its compacted revision.
    pub compacted: Revision,
    /// Up to which compaction old versions are removed.
    pub cleaned: Revision,
}

/// A member could not be planted.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Something is there already.
    #[error("data-dir {0:?} not empty or could not be read")]
    NotEmpty(PathBuf),
    /// The member is not one of the cluster's.
    #[error("{0} is not in --initial-cluster")]
    UnknownMember(String),
    /// The keyspace.
    #[error("keyspace: {0}")]
    Keyspace(#[from] DiskError),
    /// The Raft log.
    #[error("raft log: {0}")]
    Log(#[from] LogError),
    /// The membership could not be encoded.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The directory could not be claimed.
    #[error(transparent)]
    Start(#[from] crate::StartError),
}

impl Seed {
    /// Makes the member's directory; `fill` loads the keyspace. The directory counts only when all of it is on disk: an
    /// interrupted attempt leaves something that no member starts on.
    ///
    /// # Errors
    /// [`SeedError`], or what `fill` returns.
    pub fn plant<E: From<SeedError>>(
        &self,
        fill: impl FnOnce(&mut Loader) -> Result<SeedRevisions, E>,
    ) -> Result<Identity, E> {
        let unfinished = self.data_dir.join(UNFINISHED);
        self.require_empty(&unfinished)?;
        let identity = self.identity()?;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SeedError::Io { path, source }
        };
        make_dirs(&unfinished).map_err(io(&unfinished))?;
        let options = Options { cluster_id: identity.cluster, ..Options::default() };
        let keyspace = Keyspace::open(&unfinished.join("keyspace"), options).map_err(SeedError::from)?;
        let mut loader = Loader::new(keyspace);
        let SeedRevisions { revision, compacted, cleaned } = fill(&mut loader)?;
        let log_id = LogId { leader_id: FIRST_TERM.into(), index: FIRST_INDEX };
        let membership =
            wire::encode(&StoredMembership::new(Some(log_id), self.membership())).map_err(SeedError::from)?;
        loader
            .finish(&Loaded { position: position(&log_id), membership: &membership, revision, compacted, cleaned })
            .map_err(SeedError::from)?;
        plant_log(&unfinished.join("log"), &log_id)?;
        // What is planted is a memory to go on from.
        let passport = Passport { stage: Stage::TakesPart, ..Passport::new(identity) };
        passport.write(&unfinished).map_err(SeedError::from)?;
        let member = self.data_dir.join("member");
        fs::rename(&unfinished, &member).map_err(io(&member))?;
        File::open(&self.data_dir).and_then(|dir| dir.sync_all()).map_err(io(&self.data_dir))?;
        Ok(identity)
    }

    fn require_empty(&self, unfinished: &Path) -> Result<(), SeedError> {
        let not_empty = || SeedError::NotEmpty(self.data_dir.clone());
        match fs::read_dir(&self.data_dir) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(|_| not_empty())?.path();
                    if path != unfinished {
                        return Err(not_empty());
                    }
                    // An earlier attempt of this very command.
                    fs::remove_dir_all(&path).map_err(|source| SeedError::Io { path, source })?;
                }
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(_) => Err(not_empty()),
        }
    }

    fn ids(&self) -> BTreeMap<MemberId, &String> {
        self.initial_cluster.iter().map(|(name, urls)| (member_id(urls, &self.token), name)).collect()
    }

    fn identity(&self) -> Result<Identity, SeedError> {
        let urls = self.initial_cluster.get(&self.name).ok_or_else(|| SeedError::UnknownMember(self.name.clone()))?;
        let ids: Vec<MemberId> = self.ids().into_keys().collect();
        Ok(Identity { member: member_id(urls, &self.token), cluster: cluster_id(&ids) })
    }

    fn membership(&self) -> Membership<MemberId, MemberNode> {
        let nodes: BTreeMap<MemberId, MemberNode> = self
            .ids()
            .into_iter()
            .map(|(id, name)| {
                let peer_urls = self.initial_cluster.get(name).cloned().unwrap_or_default();
                (id, MemberNode { name: name.clone(), peer_urls, is_voter_to_be: false })
            })
            .collect();
        Membership::from(nodes)
    }
}

/// A log that holds nothing, and knows that nothing up to `log_id` will ever be in it.
fn plant_log(dir: &Path, log_id: &LogId) -> Result<(), SeedError> {
    let log: Log<StoredEntry> = Log::open(LogOptions::new(dir))?;
    let (tx, rx) = mpsc::channel();
    log.purge(log_id.index, wire::encode(log_id)?)?;
    log.set_floor(log_id.index, move |result| {
        if tx.send(result).is_err() {
            tracing::debug!("nobody waits for the log's floor");
        }
    })?;
    rx.recv().map_err(|error| LogError::Closed { reason: error.to_string() })??;
    Ok(())
}
