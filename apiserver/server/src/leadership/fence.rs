//! The fencing token.

use crate::store::Check;

const PREFIX: &str = "/xebec.io/leadership/";

/// A leadership: its key, and since when it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Key in the store.
    pub key: String,
    /// Revision at which the key was created.
    pub create_revision: i64,
}

impl Fence {
    /// Prefix of the keys of all candidates for `name`.
    pub fn prefix(name: &str) -> String {
        format!("{PREFIX}{name}/")
    }

    /// The key of a candidate, as in etcd's election recipe.
    pub fn candidate_key(name: &str, lease: i64) -> String {
        format!("{PREFIX}{name}/{lease:x}")
    }

    /// The token for clients; opaque to them.
    pub fn token(&self) -> String {
        format!("{}@{}", self.key.strip_prefix(PREFIX).unwrap_or(&self.key), self.create_revision)
    }

    /// Reads a token back; `None`: not one of ours.
    pub fn parse(token: &str) -> Option<Self> {
        let (key, revision) = token.rsplit_once('@')?;
        let create_revision = revision.parse().ok().filter(|revision| *revision > 0)?;
        let (name, lease) = key.split_once('/')?;
        let is_lease = !lease.is_empty() && lease.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_lease && valid_name(name)).then(|| Self { key: format!("{PREFIX}{key}"), create_revision })
    }

    /// The condition that a write adds to its transaction.
    pub fn check(&self) -> Check {
        Check::Standing { key: self.key.clone(), create_revision: self.create_revision }
    }
}

/// Whether an election may have this name.
pub fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_the_key_and_its_creation() {
        let fence = Fence { key: Fence::candidate_key("kube-scheduler", 0x1f), create_revision: 7 };
        assert_eq!(fence.token(), "kube-scheduler/1f@7");
        assert_eq!(Fence::parse(&fence.token()), Some(fence));
        for bad in ["", "kube-scheduler/1f", "kube-scheduler/1f@0", "../secrets/1@3", "kube-scheduler/@4", "a/b/c@4"] {
            assert_eq!(Fence::parse(bad), None, "{bad}");
        }
    }
}
