//! Who a member is: ids computed from its URLs, as etcd does (etcd `server/etcdserver/api/membership/member.go`).

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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

impl Identity {
    /// Who a data directory belongs to; `None` if nobody has claimed it.
    ///
    /// # Errors
    /// [`StartError::File`] if the file is damaged.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, StartError> {
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

    /// Claims a data directory for this identity, or checks that it is already this one's.
    ///
    /// # Errors
    /// [`StartError::Identity`] if it belongs to another member.
    pub(crate) fn claim(self, dir: &Path) -> Result<(), StartError> {
        let path = dir.join(FILE_NAME);
        match Self::read(dir)? {
            None => self.write(dir).map_err(|reason| StartError::File { path, reason }),
            Some(found) if found == self => Ok(()),
            Some(found) => Err(StartError::Identity {
                path,
                found_member: found.member,
                found_cluster: found.cluster,
                member: self.member,
                cluster: self.cluster,
            }),
        }
    }

    fn write(self, dir: &Path) -> Result<(), String> {
        let mut bytes = wire::encode(&self).map_err(|error| error.to_string())?;
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let beside = dir.join(format!("{FILE_NAME}.new"));
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, dir.join(FILE_NAME))?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|error: std::io::Error| error.to_string())
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
    fn a_directory_belongs_to_whom_claimed_it_first() {
        let dir = tempfile::TempDir::new().unwrap();
        let first = Identity { member: 1, cluster: 2 };
        first.claim(dir.path()).unwrap();
        first.claim(dir.path()).unwrap();
        let other = Identity { member: 3, cluster: 2 };
        assert!(matches!(other.claim(dir.path()), Err(StartError::Identity { found_member: 1, .. })));
    }
}
