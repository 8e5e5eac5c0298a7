//! Workload controllers.

use serde_json::Value;
use xebec_api::field::{Error, Path};
use xebec_api::selector::LabelSelector;
use xebec_api::{IntOrString, meta};

use super::pod::template;
use super::{immutable, non_negative, one_of};

/// The selector is there, is no catch-all, and matches the template.
fn selector(spec: &Value, path: &Path) -> Vec<Error> {
    let place = path.child("selector");
    let Some(value) = spec.get("selector").filter(|s| !s.is_null()) else {
        return vec![Error::required(&place, "")];
    };
    match LabelSelector::from_object(value) {
        Err(error) => vec![Error::invalid(&place, value.clone(), error.to_string())],
        Ok(parsed) if parsed.is_empty() => {
            vec![Error::invalid(&place, value.clone(), "empty selector is invalid for deployment")]
        }
        Ok(parsed) => {
            let labels = meta::get(spec, &["template", "metadata", "labels"]);
            if parsed.matches(labels.and_then(Value::as_object)) {
                return Vec::new();
            }
            let labels_path = path.child("template").child("metadata").child("labels");
            vec![Error::invalid(
                &labels_path,
                labels.cloned().unwrap_or(Value::Null),
                "`selector` does not match template `labels`",
            )]
        }
    }
}

fn replicated(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = non_negative(spec, "replicas", &path);
    errors.extend(non_negative(spec, "minReadySeconds", &path));
    errors.extend(non_negative(spec, "revisionHistoryLimit", &path));
    errors.extend(selector(spec, &path));
    errors.extend(template(&spec["template"], &path.child("template"), &["Always"]));
    errors
}

/// A Deployment.
pub fn deployment(object: &Value) -> Vec<Error> {
    let mut errors = replicated(object);
    let (strategy, path) = (&object["spec"]["strategy"], Path::new("spec.strategy"));
    errors.extend(one_of(strategy, "type", &["Recreate", "RollingUpdate"], &path));
    if meta::str_at(strategy, &["type"]) == "Recreate" && strategy.get("rollingUpdate").is_some_and(|r| !r.is_null()) {
        errors.push(Error::forbidden(
            &path.child("rollingUpdate"),
            "may not be specified when strategy `type` is 'Recreate'",
        ));
    }
    if let Some(rolling) = strategy.get("rollingUpdate").filter(|r| r.is_object()) {
        errors.extend(rolling_limits(rolling, &path.child("rollingUpdate")));
    }
    let spec = &object["spec"];
    if let (Some(deadline), Some(ready)) =
        (meta::i64_at(spec, &["progressDeadlineSeconds"]), meta::i64_at(spec, &["minReadySeconds"]).or(Some(0)))
        && deadline <= ready
    {
        errors.push(Error::invalid(
            &Path::new("spec.progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
    errors
}

fn rolling_limits(rolling: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut zero = true;
    for key in ["maxUnavailable", "maxSurge"] {
        let Some(value) = rolling.get(key) else { continue };
        match IntOrString::from_value(value) {
            Some(parsed) => match parsed.scaled(100, true) {
                Some(n) if n < 0 => errors.push(Error::invalid(&path.child(key), value.clone(), "must be greater than or equal to 0")),
                Some(n) => zero &= n == 0,
                None => errors.push(Error::invalid(&path.child(key), value.clone(), "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')")),
            },
            None => errors.push(Error::invalid(&path.child(key), value.clone(), "must be an integer or percentage (e.g '5%')")),
        }
    }
    if zero && errors.is_empty() {
        errors.push(Error::invalid(
            &path.child("maxUnavailable"),
            rolling["maxUnavailable"].clone(),
            "may not be 0 when `maxSurge` is 0",
        ));
    }
    errors
}

/// A ReplicaSet.
pub fn replica_set(object: &Value) -> Vec<Error> {
    replicated(object)
}

/// A StatefulSet.
pub fn stateful_set(object: &Value) -> Vec<Error> {
    let mut errors = replicated(object);
    let path = Path::new("spec");
    errors.extend(one_of(&object["spec"], "podManagementPolicy", &["OrderedReady", "Parallel"], &path));
    errors.extend(one_of(
        &object["spec"]["updateStrategy"],
        "type",
        &["OnDelete", "RollingUpdate"],
        &path.child("updateStrategy"),
    ));
    errors
}

/// A DaemonSet.
pub fn daemon_set(object: &Value) -> Vec<Error> {
    let mut errors = replicated(object);
    errors.extend(one_of(
        &object["spec"]["updateStrategy"],
        "type",
        &["OnDelete", "RollingUpdate"],
        &Path::new("spec.updateStrategy"),
    ));
    errors
}

/// A ReplicationController: a plain map selects.
pub fn replication_controller(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = non_negative(spec, "replicas", &path);
    let selector = spec.get("selector").and_then(Value::as_object);
    if selector.is_none_or(serde_json::Map::is_empty) {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    if !spec.get("template").is_some_and(Value::is_object) {
        errors.push(Error::required(&path.child("template"), ""));
        return errors;
    }
    let labels = meta::get(spec, &["template", "metadata", "labels"]);
    if !selector.into_iter().flatten().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v)) {
        let place = path.child("template").child("metadata").child("labels");
        errors.push(Error::invalid(
            &place,
            labels.cloned().unwrap_or(Value::Null),
            "`selector` does not match template `labels`",
        ));
    }
    errors.extend(template(&spec["template"], &path.child("template"), &["Always"]));
    errors
}

/// In apps/v1 a selector is for life.
pub fn selector_immutable(new: &Value, old: &Value) -> Vec<Error> {
    immutable(new, old, &["spec", "selector"])
}

/// A StatefulSet changes only a few fields.
pub fn stateful_set_update(new: &Value, old: &Value) -> Vec<Error> {
    const MUTABLE: [&str; 8] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "status",
    ];
    let rest = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(map) = spec.as_object_mut() {
            map.retain(|key, _| !MUTABLE.contains(&key.as_str()));
        }
        spec
    };
    if rest(new) == rest(old) {
        return Vec::new();
    }
    let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                  'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![Error::forbidden(&Path::new("spec"), detail)]
}

/// A Job.
pub fn job(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Vec::new();
    for key in ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        errors.extend(non_negative(spec, key, &path));
    }
    errors.extend(one_of(spec, "completionMode", &["Indexed", "NonIndexed"], &path));
    if meta::str_at(spec, &["completionMode"]) == "Indexed" && spec.get("completions").is_none_or(Value::is_null) {
        errors.push(Error::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    errors.extend(selector(spec, &path));
    errors.extend(job_template(spec, &path));
    errors
}

fn job_template(spec: &Value, path: &Path) -> Vec<Error> {
    let policy = meta::str_at(spec, &["template", "spec", "restartPolicy"]);
    let mut errors = template(&spec["template"], &path.child("template"), &["Always", "Never", "OnFailure"]);
    if policy == "Always" || policy.is_empty() {
        let place = path.child("template").child("spec").child("restartPolicy");
        let detail = "valid values: \"OnFailure\", \"Never\"";
        errors.push(Error::required(&place, detail));
    }
    errors
}

/// What of a Job is for life.
pub fn job_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = immutable(new, old, &["spec", "selector"]);
    errors.extend(immutable(new, old, &["spec", "completionMode"]));
    if meta::str_at(old, &["spec", "completionMode"]) != "Indexed" {
        errors.extend(immutable(new, old, &["spec", "completions"]));
    }
    // A suspended job that never started may be placed elsewhere (KEP-2926).
    let suspended = meta::bool_at(old, &["spec", "suspend"]) && meta::get(old, &["status", "startTime"]).is_none();
    if !suspended {
        errors.extend(immutable(new, old, &["spec", "template"]));
    }
    errors
}

/// A CronJob.
pub fn cron_job(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Vec::new();
    let schedule = meta::str_at(spec, &["schedule"]);
    if schedule.is_empty() {
        errors.push(Error::required(&path.child("schedule"), ""));
    } else if schedule.contains("TZ") {
        errors.push(Error::invalid(
            &path.child("schedule"),
            schedule,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ));
    } else if !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
        let found = schedule.split_whitespace().count();
        errors.push(Error::invalid(
            &path.child("schedule"),
            schedule,
            format!("expected exactly 5 fields, found {found}: [{schedule}]"),
        ));
    }
    errors.extend(one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], &path));
    for key in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.extend(non_negative(spec, key, &path));
    }
    errors.extend(job_template(&spec["jobTemplate"]["spec"], &path.child("jobTemplate").child("spec")));
    errors
}

/// A ControllerRevision's data is for life.
pub fn controller_revision_update(new: &Value, old: &Value) -> Vec<Error> {
    immutable(new, old, &["data"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
        let mut object = json!({"spec": {"selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        crate::defaults::deployment(&mut object);
        change(&mut object);
        let fields: Vec<String> = deployment(&object).iter().map(|e| e.field.as_str().to_owned()).collect();
        assert_eq!(fields, expected, "{object}");
    }

    #[test]
    fn deployments_are_refused_where_upstream_refuses_them() {
        check(|_| {}, &[]);
        check(|d| d["spec"]["replicas"] = json!(-1), &["spec.replicas"]);
        check(|d| d["spec"]["selector"]["matchLabels"]["app"] = json!("x"), &["spec.template.metadata.labels"]);
        check(|d| d["spec"]["selector"] = Value::Null, &["spec.selector"]);
        check(
            |d| d["spec"]["template"]["spec"]["restartPolicy"] = json!("Never"),
            &["spec.template.spec.restartPolicy"],
        );
        check(
            |d| d["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": 0, "maxUnavailable": 0}),
            &["spec.strategy.rollingUpdate.maxUnavailable"],
        );
    }

    #[test]
    fn selectors_are_for_life() {
        let old = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
        let errors = selector_immutable(&json!({"spec": {"selector": {}}}), &old);
        assert_eq!(errors[0].detail, "field is immutable");
    }
}
