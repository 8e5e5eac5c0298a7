//! Workload controllers.

use serde_json::{Map, Value, json};
use xebec_api::meta;

use super::{absent, child, empty, existing, items, pod_spec};
use crate::context::RequestContext;

fn template_spec(spec: &mut Value) {
    let template = child(spec, "template");
    absent(template, "metadata", Map::new());
    pod_spec(child(template, "spec"));
}

/// A Deployment.
pub fn deployment(object: &mut Value) {
    let spec = child(object, "spec");
    absent(spec, "replicas", 1);
    absent(spec, "revisionHistoryLimit", 10);
    absent(spec, "progressDeadlineSeconds", 600);
    let strategy = child(spec, "strategy");
    empty(strategy, "type", "RollingUpdate");
    if meta::str_at(strategy, &["type"]) == "RollingUpdate" {
        let rolling = child(strategy, "rollingUpdate");
        absent(rolling, "maxUnavailable", "25%");
        absent(rolling, "maxSurge", "25%");
    }
    template_spec(spec);
}

/// A ReplicaSet.
pub fn replica_set(object: &mut Value) {
    let spec = child(object, "spec");
    absent(spec, "replicas", 1);
    template_spec(spec);
}

/// A ReplicationController: selector and labels follow the template.
pub fn replication_controller(object: &mut Value) {
    let spec = child(object, "spec");
    absent(spec, "replicas", 1);
    let labels = meta::get(spec, &["template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels.filter(|l| l.as_object().is_some_and(|l| !l.is_empty())) {
        absent(spec, "selector", labels.clone());
        if meta::labels(object).is_none_or(Map::is_empty) {
            meta::set(object, &["metadata", "labels"], labels);
        }
    }
    if let Some(template) = object["spec"].get_mut("template").filter(|t| t.is_object()) {
        pod_spec(child(template, "spec"));
    }
}

/// A StatefulSet.
pub fn stateful_set(object: &mut Value) {
    let spec = child(object, "spec");
    absent(spec, "replicas", 1);
    absent(spec, "revisionHistoryLimit", 10);
    empty(spec, "podManagementPolicy", "OrderedReady");
    let strategy = child(spec, "updateStrategy");
    empty(strategy, "type", "RollingUpdate");
    if meta::str_at(strategy, &["type"]) == "RollingUpdate" {
        absent(child(strategy, "rollingUpdate"), "partition", 0);
    }
    let retention = child(spec, "persistentVolumeClaimRetentionPolicy");
    empty(retention, "whenDeleted", "Retain");
    empty(retention, "whenScaled", "Retain");
    for claim in items(spec, "volumeClaimTemplates") {
        empty(claim, "apiVersion", "v1");
        empty(claim, "kind", "PersistentVolumeClaim");
        super::persistent_volume_claim(claim);
        absent(child(claim, "status"), "phase", "Pending");
    }
    template_spec(spec);
}

/// A DaemonSet.
pub fn daemon_set(object: &mut Value) {
    let spec = child(object, "spec");
    absent(spec, "revisionHistoryLimit", 10);
    let strategy = child(spec, "updateStrategy");
    empty(strategy, "type", "RollingUpdate");
    if meta::str_at(strategy, &["type"]) == "RollingUpdate" {
        let rolling = child(strategy, "rollingUpdate");
        absent(rolling, "maxUnavailable", 1);
        absent(rolling, "maxSurge", 0);
    }
    template_spec(spec);
}

/// A Job.
pub fn job(object: &mut Value) {
    job_spec(child(object, "spec"), true);
}

fn job_spec(spec: &mut Value, counts: bool) {
    let unset = |spec: &Value, key: &str| spec.get(key).is_none_or(Value::is_null);
    if counts {
        if unset(spec, "completions") && unset(spec, "parallelism") {
            spec["completions"] = json!(1);
        }
        absent(spec, "parallelism", 1);
        let per_index = !unset(spec, "backoffLimitPerIndex");
        absent(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
        if per_index {
            absent(spec, "maxFailedIndexes", Value::Null);
        }
        absent(spec, "completionMode", "NonIndexed");
        absent(spec, "suspend", false);
        absent(spec, "manualSelector", false);
        let policy = if unset(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
        absent(spec, "podReplacementPolicy", policy);
    }
    if let Some(spec) = existing(spec, "template") {
        absent(spec, "metadata", Map::new());
        pod_spec(child(spec, "spec"));
    }
}

/// A CronJob.
pub fn cron_job(object: &mut Value) {
    let spec = child(object, "spec");
    empty(spec, "concurrencyPolicy", "Allow");
    absent(spec, "suspend", false);
    absent(spec, "successfulJobsHistoryLimit", 3);
    absent(spec, "failedJobsHistoryLimit", 1);
    let template = child(spec, "jobTemplate");
    absent(template, "metadata", Map::new());
    job_spec(child(template, "spec"), false);
}

/// Gives a new Job a selector of its own UID, unless `manualSelector` (kubernetes `pkg/registry/batch/job/strategy.go`).
pub fn job_selector(object: &mut Value, _: &RequestContext) {
    if meta::bool_at(object, &["spec", "manualSelector"]) {
        return;
    }
    let (uid, name) = (meta::uid(object).to_owned(), meta::name(object).to_owned());
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        meta::set(object, &["spec", "template", "metadata", "labels", key], value.as_str().into());
    }
    if meta::get(object, &["spec", "selector"]).is_none_or(Value::is_null) {
        meta::set(object, &["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"], uid.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployments_roll_by_quarters() {
        let mut object = json!({"spec": {"selector": {}, "template": {}}});
        deployment(&mut object);
        assert_eq!(
            object["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        assert_eq!(object["spec"]["progressDeadlineSeconds"], json!(600));
        assert_eq!(object["spec"]["template"]["spec"]["restartPolicy"], json!("Always"));
        let mut recreate = json!({"spec": {"strategy": {"type": "Recreate"}}});
        deployment(&mut recreate);
        assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
    }

    #[test]
    fn jobs_complete_once_unless_told_otherwise() {
        let mut object = json!({"spec": {"template": {}}});
        job(&mut object);
        assert_eq!((&object["spec"]["completions"], &object["spec"]["parallelism"]), (&json!(1), &json!(1)));
        let mut queue = json!({"spec": {"parallelism": 3, "template": {}}});
        job(&mut queue);
        assert!(queue["spec"].get("completions").is_none());
    }
}
