//! What a Kubernetes object says, as far as checkers ask.

use serde::{Deserialize, Serialize};

/// The `value` of a watch event about a Kubernetes object is this, as JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// `metadata.uid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// `metadata.finalizers`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Uids of `metadata.ownerReferences`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Whether `metadata.deletionTimestamp` is set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// A pod's `spec.nodeName`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// A pod's `status.phase`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Restarts of a pod's containers, added up.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: u64,
    /// A Service's addresses and node ports: `ip/10.96.0.7`, `port/30080`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// A Lease's holder and since when: `holderIdentity@acquireTime`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub term: String,
    /// `metadata.generation` and `status.observedGeneration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generations: Option<(u64, u64)>,
    /// Replicas that a Deployment wants, and those that are up to date and available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<(u64, u64)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Facts {
    /// Whether a Deployment has what it wants, and its controller has seen what that is. Anything else always has.
    pub fn converged(&self) -> bool {
        let Some((wanted, ready)) = self.replicas else { return true };
        let seen = self.generations.is_none_or(|(generation, observed)| generation <= observed);
        seen && wanted == ready
    }

    /// Reads them out of a watch event's value; `None`: it holds something else.
    pub fn parse(value: &str) -> Option<Self> {
        value.starts_with('{').then(|| serde_json::from_str(value).ok()).flatten()
    }
}
