//! What a decision may know about the request that asked for it, besides the objects.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Upstream's privileged group: authorization never refuses its members.
pub const SYSTEM_MASTERS: &str = "system:masters";
/// Alphabet of generated suffixes: no vowels and no look-alikes, so that no word appears (apimachinery `util/rand`).
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Characters of a generated suffix.
const SUFFIX_LENGTH: usize = 5;

/// The authenticated caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User name, `system:anonymous` where nobody logged in.
    pub name: String,
    /// Opaque identifier that does not survive re-creation of the user.
    pub uid: String,
    /// Groups, virtual ones such as `system:authenticated` among them.
    pub groups: Vec<String>,
    /// What the authenticator adds, such as `authentication.kubernetes.io/pod-name`.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user of the given groups.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self { name: name.to_owned(), groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..Self::default() }
    }

    /// Whether the user is in `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Namespace and name, if the user is a ServiceAccount.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
    }

    /// The node's name, if the user is a kubelet (group `system:nodes`, name `system:node:<name>`).
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:")?;
        (!name.is_empty() && self.in_group("system:nodes")).then_some(name)
    }
}

/// Everything impure that a decision needs, brought by the server once per request.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// When the request is decided.
    pub now: Timestamp,
    /// A fresh UUID for an object that the request may create.
    pub uid: String,
    /// Fresh randomness, for generated names.
    pub entropy: u64,
    /// The caller.
    pub user: User,
    /// The name under which field ownership is tracked: `fieldManager`, or the user agent up to the first slash.
    pub field_manager: String,
}

impl RequestContext {
    /// The time as `metav1.Time` prints it.
    pub fn now_text(&self) -> String {
        xebec_api::time::format_time(self.now)
    }

    /// The time as `metav1.MicroTime` prints it.
    pub fn now_micro_text(&self) -> String {
        xebec_api::time::format_micro_time(self.now)
    }

    /// The `n`th generated suffix of this request: five characters (apimachinery `names.SimpleNameGenerator`).
    pub fn suffix(&self, n: u64) -> String {
        let mut state = self.entropy.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..SUFFIX_LENGTH)
            .map(|_| {
                let index = next_random(&mut state) % SUFFIX_ALPHABET.len() as u64;
                char::from(SUFFIX_ALPHABET[index as usize])
            })
            .collect()
    }
}

/// SplitMix64: a full-period mix of a counter, enough to spread names and addresses.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A context for tests: fixed time, UID and entropy.
#[cfg(test)]
pub(crate) fn test_context(user: User) -> RequestContext {
    RequestContext {
        now: "2026-11-21T02:00:00Z".parse().expect("a time"),
        uid: "11111111-2222-3333-4444-555555555555".into(),
        entropy: 7,
        user,
        field_manager: "kubectl".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_of_the_alphabet_and_differ() {
        let ctx = test_context(User::default());
        let a = ctx.suffix(0);
        assert_eq!(a.len(), 5);
        assert!(a.bytes().all(|b| SUFFIX_ALPHABET.contains(&b)));
        assert_ne!(a, ctx.suffix(1));
        assert_eq!(a, ctx.suffix(0));
    }

    #[test]
    fn identities_are_read_from_user_names() {
        assert_eq!(User::new("system:serviceaccount:ns:sa", &[]).service_account(), Some(("ns", "sa")));
        assert_eq!(User::new("system:node:n1", &["system:nodes"]).node_name(), Some("n1"));
        assert_eq!(User::new("system:node:n1", &[]).node_name(), None);
    }
}
