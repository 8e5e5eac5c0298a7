//! The end of a namespace: its contents first, then its finalizer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};

use crate::{action::Action, meta, resource::Resource};

/// The finalizer in `spec.finalizers` this controller answers for.
const FINALIZER: &str = "kubernetes";
/// How long to wait for the event of the last removal before looking again. Removals wake the key; this covers kinds
/// whose objects vanish without a watch.
const RECHECK: Duration = Duration::from_secs(15);

/// Objects of one kind left in the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Their kind.
    pub resource: Resource,
    /// How many.
    pub count: usize,
    /// How many of them await deletion already.
    pub deleting: usize,
    /// Finalizers they carry, and how often.
    pub finalizers: BTreeMap<String, usize>,
}

/// What is seen of a namespace that is being deleted.
#[derive(Debug)]
pub struct Observed {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// What is left in it, asked of the API server itself, kinds without objects left out.
    pub remaining: Vec<Remaining>,
    /// Groups and kinds that could not be asked, and why.
    pub failures: Vec<String>,
    /// The time.
    pub now: Timestamp,
}

/// Deletes pods first, everything else next (upstream's `OrderedNamespaceDeletion`: what guards a pod outlives it), and
/// finalizes only what was seen empty with every kind answering.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let namespace = &*observed.namespace;
    let mut actions = Vec::new();
    if !meta::is_deleting(namespace) {
        return actions;
    }
    let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    let others: Vec<String> = finalizers.clone().filter(|f| *f != FINALIZER).cloned().collect();
    let ours = finalizers.clone().any(|f| f == FINALIZER);

    let status = status(observed);
    if namespace.status.as_ref() != Some(&status) {
        let mut copy = namespace.clone();
        copy.status = Some(status);
        actions.push(Action::update_status(&copy));
    }
    if !observed.remaining.is_empty() || !observed.failures.is_empty() {
        let is_pods = |left: &&Remaining| left.resource.group.is_empty() && left.resource.plural == "pods";
        let pods_left = observed.remaining.iter().any(|left| is_pods(&left));
        let next = observed.remaining.iter().filter(|left| is_pods(left) || !pods_left);
        for left in next.filter(|left| left.deleting < left.count) {
            actions.push(Action::DeleteAll {
                resource: left.resource.clone(),
                namespace: meta::name(namespace).to_owned(),
            });
        }
        actions.push(Action::Wake { after: RECHECK });
    } else if ours {
        // A status written just now has moved the resourceVersion: its event brings the key back.
        if actions.is_empty() {
            let mut copy = namespace.clone();
            copy.spec.get_or_insert_default().finalizers = Some(others);
            actions.push(Action::update_subresource(&copy, "finalize"));
        }
    }
    actions
}

fn status(observed: &Observed) -> NamespaceStatus {
    let kinds: Vec<String> = observed
        .remaining
        .iter()
        .map(|left| format!("{} has {} resource instances", left.resource, left.count))
        .collect();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in observed.remaining.iter().flat_map(|left| &left.finalizers) {
        *finalizers.entry(finalizer).or_default() += count;
    }
    let waiting: Vec<String> =
        finalizers.iter().map(|(finalizer, count)| format!("{finalizer} in {count} resource instances")).collect();
    let before = observed.namespace.status.as_ref().and_then(|status| status.conditions.as_ref());
    let make = |kind: &str, bad: bool, reason: (&str, &str), message: String| {
        let status = if bad { "True" } else { "False" };
        let old = before.into_iter().flatten().find(|condition| condition.type_ == kind);
        let since = old
            .filter(|old| old.status == status)
            .and_then(|old| old.last_transition_time.clone())
            .unwrap_or_else(|| meta::wire_time(observed.now));
        NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(if bad { reason.0 } else { reason.1 }.to_owned()),
            message: Some(message),
            last_transition_time: Some(since),
        }
    };
    let text = |bad: bool, problem: String, fine: &str| if bad { problem } else { fine.to_owned() };
    let failed = !observed.failures.is_empty();
    let remains = !kinds.is_empty();
    let blocked = !waiting.is_empty();
    NamespaceStatus {
        phase: Some("Terminating".to_owned()),
        conditions: Some(vec![
            make(
                "NamespaceDeletionDiscoveryFailure",
                failed,
                ("DiscoveryFailed", "ResourcesDiscovered"),
                text(failed, observed.failures.join("; "), "All resources successfully discovered"),
            ),
            make(
                "NamespaceContentRemaining",
                remains,
                ("SomeResourcesRemain", "ContentRemoved"),
                text(
                    remains,
                    format!("Some resources are remaining: {}", kinds.join(", ")),
                    "All content successfully removed",
                ),
            ),
            make(
                "NamespaceFinalizersRemaining",
                blocked,
                ("SomeFinalizersRemain", "ContentHasNoFinalizers"),
                text(
                    blocked,
                    format!("Some content in the namespace has finalizers remaining: {}", waiting.join(", ")),
                    "All content-preserving finalizers finished",
                ),
            ),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, Secret};
    use serde_json::json;

    use super::*;

    fn observed(remaining: Vec<Remaining>) -> Observed {
        let namespace = json!({
            "metadata": { "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "finalizers": ["kubernetes", "example.com/mine"] },
        });
        Observed {
            namespace: Arc::new(serde_json::from_value(namespace).unwrap()),
            remaining,
            failures: Vec::new(),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn left(resource: Resource, deleting: usize) -> Remaining {
        Remaining { resource, count: 2, deleting, finalizers: BTreeMap::new() }
    }

    fn settle(mut seen: Observed) -> Vec<String> {
        let mut copy = (*seen.namespace).clone();
        copy.status = Some(status(&seen));
        seen.namespace = Arc::new(copy);
        reconcile(&seen).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pods_go_before_everything_else() {
        let both = vec![left(Resource::of::<Secret>(), 0), left(Resource::of::<Pod>(), 0)];
        assert_eq!(settle(observed(both)), ["delete all pods in a", "wake after 15s"]);
        let waiting = vec![left(Resource::of::<Secret>(), 0), left(Resource::of::<Pod>(), 2)];
        assert_eq!(settle(observed(waiting)), ["wake after 15s"]);
        let rest = vec![left(Resource::of::<Secret>(), 0)];
        assert_eq!(settle(observed(rest)), ["delete all secrets in a", "wake after 15s"]);
    }

    #[test]
    fn an_empty_namespace_loses_our_finalizer_only() {
        let mut seen = observed(Vec::new());
        let mut copy = (*seen.namespace).clone();
        copy.status = Some(status(&seen));
        seen.namespace = Arc::new(copy);
        let [Action::Update { subresource: Some("finalize"), body, .. }] = &reconcile(&seen)[..] else {
            panic!("{:?}", reconcile(&seen))
        };
        assert_eq!(body["spec"]["finalizers"], json!(["example.com/mine"]));
    }

    #[test]
    fn a_kind_that_does_not_answer_keeps_the_namespace() {
        let mut seen = observed(Vec::new());
        seen.failures.push("metrics.example: unavailable".to_owned());
        assert_eq!(settle(seen), ["wake after 15s"]);
    }
}
