//! What a DELETE does: remove the object, or mark it and wait for a grace period, finalizers or dependents (apiserver
//! `registry/rest/delete.go` and `registry/generic/registry/store.go`).

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use xebec_api::{Status, meta, time};

use super::preconditions::check_resource_version;
use super::row::Row;
use crate::context::RequestContext;
use crate::request::{DeleteOptions, Propagation};

/// The finalizer that orphans dependents.
pub const ORPHAN: &str = "orphan";
/// The finalizer that waits for dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// What a Pod without a value of its own gets, in seconds.
const POD_GRACE_SECONDS: i64 = 30;

/// What becomes of the object.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// Remove it now; the answer is the object as it was.
    DeleteNow,
    /// Store this marked version and answer with it (202 where the object stays).
    MarkAndUpdate(Value),
    /// It is already on its way; answer with it as it is.
    Pending,
}

/// Decides a DELETE.
///
/// # Errors
/// 409 when a precondition fails.
pub fn decide(row: &Row, object: &Value, options: &DeleteOptions, ctx: &RequestContext) -> Result<Deletion, Status> {
    check_resource_version(row, object, options.uid.as_deref(), options.resource_version.as_deref())?;
    let is_core = |kind: &str| row.gvk.group.is_empty() && row.gvk.kind == kind;
    let mut marked = object.clone();
    change_finalizers(&mut marked, options.propagation.or_else(|| default_propagation(row, object)));
    if is_core("Namespace") {
        return Ok(namespace(object, marked, ctx));
    }
    let grace = if is_core("Pod") { Some(pod_grace_seconds(object, options)) } else { None };
    if meta::deletion_timestamp(object).is_some() {
        return Ok(already_deleting(object, marked, options));
    }
    let finalizers = !meta::finalizers(&marked).is_empty();
    match grace {
        Some(seconds) if seconds > 0 => mark(&mut marked, ctx.now, seconds),
        _ if finalizers => mark(&mut marked, ctx.now, 0),
        _ => return Ok(Deletion::DeleteNow),
    }
    Ok(Deletion::MarkAndUpdate(marked))
}

/// What becomes of dependents where neither the client nor a finalizer says it: Jobs and ReplicationControllers leave
/// them behind, as they did before there was a garbage collector (`DefaultGarbageCollectionPolicy` of their strategies).
fn default_propagation(row: &Row, object: &Value) -> Option<Propagation> {
    let orphans = matches!(
        (row.gvk.group.as_str(), row.gvk.version.as_str(), row.gvk.kind.as_str()),
        ("batch", "v1", "Job") | ("", "v1", "ReplicationController")
    );
    let told = meta::finalizers(object).iter().any(|finalizer| matches!(*finalizer, ORPHAN | FOREGROUND));
    (orphans && !told).then_some(Propagation::Orphan)
}

/// Whether an update has removed the last thing that kept a dying object: then it is deleted instead of stored.
pub fn completes_deletion(row: &Row, updated: &Value) -> bool {
    if meta::deletion_timestamp(updated).is_none() || !meta::finalizers(updated).is_empty() {
        return false;
    }
    if row.gvk.group.is_empty() && row.gvk.kind == "Namespace" {
        return meta::list_at(updated, &["spec", "finalizers"]).is_empty();
    }
    meta::deletion_grace_period_seconds(updated).unwrap_or(0) == 0
}

/// A pod that never reached a node, or has ended, has nothing to stop.
fn pod_grace_seconds(pod: &Value, options: &DeleteOptions) -> i64 {
    let own = meta::i64_at(pod, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(POD_GRACE_SECONDS);
    let wanted = options.grace_period_seconds.unwrap_or(own);
    let ended = matches!(meta::str_at(pod, &["status", "phase"]), "Succeeded" | "Failed");
    if meta::str_at(pod, &["spec", "nodeName"]).is_empty() || ended {
        return 0;
    }
    // Upstream reads a negative period as one second.
    if wanted < 0 { 1 } else { wanted }
}

fn mark(object: &mut Value, now: Timestamp, grace_seconds: i64) {
    let at = now.checked_add(SignedDuration::from_secs(grace_seconds)).unwrap_or(Timestamp::MAX);
    set_deletion(object, at, grace_seconds);
    let generation = meta::generation(object);
    if generation > 0 {
        meta::set_generation(object, generation + 1);
    }
}

fn set_deletion(object: &mut Value, at: Timestamp, grace_seconds: i64) {
    let metadata = meta::metadata_mut(object);
    metadata.insert("deletionTimestamp".into(), time::format_time(at).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace_seconds.into());
}

/// A second DELETE may shorten the grace period, never lengthen it.
fn already_deleting(object: &Value, mut marked: Value, options: &DeleteOptions) -> Deletion {
    let finalizers_changed = marked != *object;
    let current = meta::deletion_grace_period_seconds(object).unwrap_or(0);
    let wanted = options.grace_period_seconds.map(|s| if s < 0 { 1 } else { s });
    let no_finalizers = meta::finalizers(&marked).is_empty();
    if current == 0 {
        return match (no_finalizers, finalizers_changed) {
            (true, _) => Deletion::DeleteNow,
            (false, true) => Deletion::MarkAndUpdate(marked),
            (false, false) => Deletion::Pending,
        };
    }
    if let Some(seconds) = wanted.filter(|seconds| *seconds < current) {
        if seconds == 0 && no_finalizers {
            return Deletion::DeleteNow;
        }
        let was =
            meta::deletion_timestamp(object).and_then(|t| time::parse_time(t).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
        let at = was.checked_sub(SignedDuration::from_secs(current - seconds)).unwrap_or(was);
        set_deletion(&mut marked, at, seconds);
        return Deletion::MarkAndUpdate(marked);
    }
    if finalizers_changed { Deletion::MarkAndUpdate(marked) } else { Deletion::Pending }
}

/// A Namespace goes when `spec.finalizers` is empty; until then it is Terminating.
fn namespace(object: &Value, mut marked: Value, ctx: &RequestContext) -> Deletion {
    let kept = !meta::list_at(object, &["spec", "finalizers"]).is_empty() || !meta::finalizers(&marked).is_empty();
    if !kept {
        return Deletion::DeleteNow;
    }
    if meta::deletion_timestamp(object).is_none() {
        meta::metadata_mut(&mut marked).insert("deletionTimestamp".into(), ctx.now_text().into());
    }
    meta::set(&mut marked, &["status", "phase"], "Terminating".into());
    if marked == *object { Deletion::Pending } else { Deletion::MarkAndUpdate(marked) }
}

fn change_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let wanted = match propagation {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let mut finalizers: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    finalizers.retain(|f| f != ORPHAN && f != FOREGROUND || wanted == Some(f));
    if let Some(wanted) = wanted.filter(|w| !finalizers.iter().any(|f| f == w)) {
        finalizers.push(wanted.to_owned());
    }
    meta::set_finalizers(object, &finalizers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{User, test_context};
    use crate::registry::StatusRule;
    use serde_json::json;
    use xebec_api::GroupVersionKind;

    fn run(kind: &str, object: &Value, options: DeleteOptions) -> Deletion {
        let row = Row::new(GroupVersionKind::new("", "v1", kind), "things", true, StatusRule::Subresource);
        decide(&row, object, &options, &test_context(User::default())).expect("preconditions hold")
    }

    fn grace(seconds: i64) -> DeleteOptions {
        DeleteOptions { grace_period_seconds: Some(seconds), ..DeleteOptions::default() }
    }

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}})
    }

    #[test]
    fn running_pods_get_their_grace_period() {
        let Deletion::MarkAndUpdate(marked) = run("Pod", &pod(), DeleteOptions::default()) else { panic!("marked") };
        assert_eq!(meta::deletion_timestamp(&marked), Some("2026-11-21T02:00:30Z"));
        assert_eq!((meta::deletion_grace_period_seconds(&marked), meta::generation(&marked)), (Some(30), 2));
        assert_eq!(run("Pod", &marked, DeleteOptions::default()), Deletion::Pending);
        assert_eq!(run("Pod", &marked, grace(60)), Deletion::Pending);
        let Deletion::MarkAndUpdate(sooner) = run("Pod", &marked, grace(5)) else { panic!("shortened") };
        assert_eq!(meta::deletion_timestamp(&sooner), Some("2026-11-21T02:00:05Z"));
        assert_eq!(run("Pod", &marked, grace(0)), Deletion::DeleteNow);
        assert_eq!(run("Pod", &pod(), grace(0)), Deletion::DeleteNow);
    }

    #[test]
    fn pods_without_node_and_other_kinds_go_at_once() {
        assert_eq!(
            run("Pod", &json!({"metadata": {"name": "p"}, "spec": {}}), DeleteOptions::default()),
            Deletion::DeleteNow
        );
        assert_eq!(run("ConfigMap", &json!({"metadata": {"name": "c"}}), grace(30)), Deletion::DeleteNow);
    }

    #[test]
    fn finalizers_and_dependents_keep_the_object() {
        let object = json!({"metadata": {"name": "c", "finalizers": ["a/b"]}});
        let Deletion::MarkAndUpdate(marked) = run("ConfigMap", &object, DeleteOptions::default()) else {
            panic!("marked")
        };
        assert_eq!(meta::deletion_grace_period_seconds(&marked), Some(0));
        let row = Row::new(GroupVersionKind::new("", "v1", "ConfigMap"), "configmaps", true, StatusRule::Plain);
        assert!(!completes_deletion(&row, &marked));
        let mut freed = marked.clone();
        meta::set_finalizers::<&str>(&mut freed, &[]);
        assert!(completes_deletion(&row, &freed));

        let plain = json!({"metadata": {"name": "c"}});
        let options = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
        let Deletion::MarkAndUpdate(marked) = run("ConfigMap", &plain, options) else { panic!("marked") };
        assert_eq!(meta::finalizers(&marked), [FOREGROUND]);
    }

    #[test]
    fn jobs_and_replication_controllers_leave_their_pods_behind_unless_told_otherwise() {
        let plain = json!({"metadata": {"name": "c"}});
        let Deletion::MarkAndUpdate(marked) = run("ReplicationController", &plain, DeleteOptions::default()) else {
            panic!("marked")
        };
        assert_eq!(meta::finalizers(&marked), [ORPHAN]);
        let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        assert_eq!(run("ReplicationController", &plain, background), Deletion::DeleteNow);
        let row = Row::new(GroupVersionKind::new("batch", "v1", "Job"), "jobs", true, StatusRule::Subresource);
        let job = json!({"metadata": {"name": "j", "finalizers": [FOREGROUND]}});
        let decided = decide(&row, &job, &DeleteOptions::default(), &test_context(User::default()));
        let Ok(Deletion::MarkAndUpdate(marked)) = decided else { panic!("marked") };
        assert_eq!(meta::finalizers(&marked), [FOREGROUND]);
    }

    #[test]
    fn namespaces_terminate_until_finalized() {
        let ns =
            json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let Deletion::MarkAndUpdate(marked) = run("Namespace", &ns, DeleteOptions::default()) else { panic!("marked") };
        assert_eq!(meta::str_at(&marked, &["status", "phase"]), "Terminating");
        assert_eq!(run("Namespace", &marked, DeleteOptions::default()), Deletion::Pending);
        let mut done = marked;
        done["spec"]["finalizers"] = json!([]);
        let row = Row::new(GroupVersionKind::new("", "v1", "Namespace"), "namespaces", false, StatusRule::Subresource);
        assert!(completes_deletion(&row, &done));
        assert_eq!(run("Namespace", &done, DeleteOptions::default()), Deletion::DeleteNow);
    }

    #[test]
    fn preconditions_are_checked() {
        let row = Row::new(GroupVersionKind::new("", "v1", "Pod"), "pods", true, StatusRule::Subresource);
        let options = DeleteOptions { uid: Some("x".into()), ..DeleteOptions::default() };
        let error = decide(&row, &pod(), &options, &test_context(User::default())).expect_err("another incarnation");
        assert_eq!(error.code, 409);
    }
}
