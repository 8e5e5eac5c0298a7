//! Who a member is: ids computed from its URLs, as etcd does (etcd `server/etcdserver/api/membership/member.go`), and
//! what its data directory remembers of that.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xebec_store_log::make_dirs;

use crate::{error::StartError, types::MemberId, wire};

const FILE_NAME: &str = "identity";

/// A member and its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The member.
    pub member: MemberId,
    /// The cluster.
    pub cluster: u64,
}

/// How far a data directory has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// The member has neither voted nor acknowledged anything, and must not before its peers agree.
    Waiting,
    /// It takes part.
    TakesPart,
    /// It was removed from the cluster, for good.
    Removed,
}

/// What the file `identity` of a data directory holds.
///
/// A member id stands for one memory. Raft's promise rests on votes and acknowledged entries being remembered, so that
/// an id whose directory was lost must never vote again: a follower that lags could win with that vote and overwrite
/// what was acknowledged. The `incarnation` tells two directories of the same id apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Passport {
    pub identity: Identity,
    pub incarnation: u64,
    pub stage: Stage,
    /// The incarnations of the other first members with which this one began the cluster.
    pub witnesses: BTreeMap<MemberId, u64>,
    /// Where the others are reached with whom this one began, or whom it joined: to ask whether it is still a member, as
    /// long as it knows of no others. It may have been removed before anything was replicated to it.
    pub first_peers: Vec<Vec<String>>,
}

/// The id of a member: the same on every member that is given the same flags.
#[must_use]
pub fn member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    digest(urls.iter().map(String::as_bytes).chain([token.as_bytes()]))
}

/// The id of a cluster, from its first members.
#[must_use]
pub fn cluster_id(members: &[MemberId]) -> u64 {
    let mut ids: Vec<[u8; 8]> = members.iter().map(|id| id.to_be_bytes()).collect();
    ids.sort();
    digest(ids.iter().map(<[u8; 8]>::as_slice))
}

fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let hash = hasher.finalize();
    // Zero means "none" in etcd's responses.
    hash.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte)).max(1)
}

/// Where a member keeps everything, below its `--data-dir`.
pub(crate) fn member_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("member")
}

/// Whether a data directory holds a member that takes part in a cluster, so that the flags that describe a cluster's
/// beginning do not count any more.
///
/// # Errors
/// [`StartError::File`] if the directory's identity is damaged.
pub fn is_initialized(data_dir: &Path) -> Result<bool, StartError> {
    Ok(Passport::read(&member_dir(data_dir))?.is_some_and(|passport| passport.stage != Stage::Waiting))
}

impl Passport {
    /// A directory that begins: a number that no other directory has is drawn from the system's random keys.
    pub fn new(identity: Identity) -> Self {
        use std::hash::{BuildHasher, RandomState};
        let incarnation = RandomState::new().hash_one(identity.member).max(1);
        Self { identity, incarnation, stage: Stage::Waiting, witnesses: BTreeMap::new(), first_peers: Vec::new() }
    }

    /// What the directory holds; `None` if no member was ever started in it.
    pub fn read(dir: &Path) -> Result<Option<Self>, StartError> {
        let path = dir.join(FILE_NAME);
        let failed = |reason: String| StartError::File { path: path.clone(), reason };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let body = bytes.split_last_chunk::<4>();
        let (body, crc) = body.ok_or_else(|| failed(format!("offset {}: cut short", bytes.len())))?;
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return Err(failed(format!("offset {}: wrong checksum", body.len())));
        }
        wire::decode(body).map(Some).map_err(|error| failed(error.to_string()))
    }

    /// Replaces the file, durably.
    pub fn write(&self, dir: &Path) -> Result<(), StartError> {
        let path = dir.join(FILE_NAME);
        let failed = |reason: String| StartError::File { path: path.clone(), reason };
        let mut bytes = wire::encode(self).map_err(|error| failed(error.to_string()))?;
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let beside = dir.join(format!("{FILE_NAME}.new"));
        let write = || {
            make_dirs(dir)?;
            let mut file = File::create(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|error: std::io::Error| failed(error.to_string()))
    }

    /// Refuses a directory that was begun with other flags, and has not come further than that.
    pub fn check(&self, dir: &Path, identity: Identity) -> Result<(), StartError> {
        if self.identity == identity {
            return Ok(());
        }
        Err(StartError::Identity {
            path: dir.join(FILE_NAME),
            found_member: self.identity.member,
            found_cluster: self.identity.cluster,
            member: identity.member,
            cluster: identity.cluster,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_urls_and_token_but_not_on_order() {
        let urls = |list: &[&str]| list.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        let id = member_id(&urls(&["http://a:1", "http://b:2"]), "token");
        assert_eq!(id, member_id(&urls(&["http://b:2", "http://a:1"]), "token"));
        assert_ne!(id, member_id(&urls(&["http://a:1", "http://b:2"]), "other"));
        assert_ne!(id, member_id(&urls(&["http://a:1"]), "token"));
        assert_eq!(cluster_id(&[1, 2]), cluster_id(&[2, 1]));
    }

    #[test]
    fn a_directory_remembers_whose_it_is_and_that_it_began() {
        let dir = tempfile::TempDir::new().unwrap();
        let member = member_dir(dir.path());
        assert_eq!(Passport::read(&member).unwrap(), None);
        let mut passport = Passport::new(Identity { member: 1, cluster: 2 });
        passport.write(&member).unwrap();
        assert!(!is_initialized(dir.path()).unwrap(), "it has not taken part");
        passport.stage = Stage::TakesPart;
        passport.witnesses.insert(7, 8);
        passport.first_peers.push(vec!["http://a:1".to_owned()]);
        passport.write(&member).unwrap();
        assert_eq!(Passport::read(&member).unwrap(), Some(passport.clone()));
        assert!(is_initialized(dir.path()).unwrap());
        let other = Identity { member: 3, cluster: 2 };
        assert!(matches!(passport.check(&member, other), Err(StartError::Identity { found_member: 1, .. })));
    }

    #[test]
    fn two_directories_of_one_member_differ() {
        let identity = Identity { member: 1, cluster: 2 };
        assert_ne!(Passport::new(identity).incarnation, Passport::new(identity).incarnation);
    }
}
