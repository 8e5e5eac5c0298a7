//! A pod's row: readiness, status and restarts as upstream sums them up (`printPod`).

use jiff::Timestamp;
use serde_json::{Value, json};
use xebec_api::meta;

use super::duration::{human_duration, since};

/// READY, STATUS, RESTARTS of a pod.
pub(super) struct Summary {
    pub ready: String,
    pub status: String,
    pub restarts: String,
}

/// What the containers of one kind tell.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += meta::i64_at(status, &["restartCount"]).unwrap_or(0);
        let finished = meta::str_at(status, &["lastState", "terminated", "finishedAt"]);
        if let Ok(time) = xebec_api::time::parse_time(finished) {
            self.last = self.last.max(Some(time));
        }
    }
}

fn restartable(pod: &Value, name: &str) -> bool {
    meta::list_at(pod, &["spec", "initContainers"])
        .iter()
        .any(|c| meta::str_at(c, &["name"]) == name && meta::str_at(c, &["restartPolicy"]) == "Always")
}

/// Sums a pod up.
pub(super) fn summary(pod: &Value, now: Timestamp) -> Summary {
    let mut status = match meta::str_at(pod, &["status", "reason"]) {
        "" => meta::str_at(pod, &["status", "phase"]).to_owned(),
        reason => reason.to_owned(),
    };
    let scheduled =
        meta::list_at(pod, &["status", "conditions"]).iter().find(|c| meta::str_at(c, &["type"]) == "PodScheduled");
    if scheduled.is_some_and(|c| meta::str_at(c, &["reason"]) == "SchedulingGated") {
        status = "SchedulingGated".into();
    }
    let mut total = meta::list_at(pod, &["spec", "containers"]).len();
    let (mut ready, mut restarts) = (0, Restarts::default());
    let mut sidecar_restarts = Restarts::default();
    let initializing = initialization(pod, &mut status, &mut restarts, &mut sidecar_restarts, &mut total, &mut ready);
    let initialized = meta::list_at(pod, &["status", "conditions"])
        .iter()
        .any(|c| meta::str_at(c, &["type"]) == "Initialized" && meta::str_at(c, &["status"]) == "True");
    if !initializing || initialized {
        restarts = sidecar_restarts;
        containers(pod, &mut status, &mut restarts, &mut ready);
    }
    if meta::deletion_timestamp(pod).is_some() {
        let lost = meta::str_at(pod, &["status", "reason"]) == "NodeLost";
        let ended = matches!(meta::str_at(pod, &["status", "phase"]), "Succeeded" | "Failed");
        if lost {
            status = "Unknown".into();
        } else if !ended {
            status = "Terminating".into();
        }
    }
    let restarts = match restarts.last {
        Some(last) if restarts.count != 0 => {
            format!("{} ({} ago)", restarts.count, human_duration(now.as_second() - last.as_second()))
        }
        _ => restarts.count.to_string(),
    };
    Summary { ready: format!("{ready}/{total}"), status, restarts }
}

/// Looks at the init containers; tells whether they are still at it.
fn initialization(
    pod: &Value,
    status: &mut String,
    restarts: &mut Restarts,
    sidecar_restarts: &mut Restarts,
    total: &mut usize,
    ready: &mut usize,
) -> bool {
    let count = meta::list_at(pod, &["spec", "initContainers"]).len();
    *total += meta::list_at(pod, &["spec", "initContainers"])
        .iter()
        .filter(|c| meta::str_at(c, &["restartPolicy"]) == "Always")
        .count();
    for (i, container) in meta::list_at(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        restarts.add(container);
        let sidecar = restartable(pod, meta::str_at(container, &["name"]));
        if sidecar {
            sidecar_restarts.add(container);
        }
        let terminated = meta::get(container, &["state", "terminated"]).filter(|t| t.is_object());
        let waiting = meta::str_at(container, &["state", "waiting", "reason"]);
        if let Some(terminated) = terminated {
            if meta::i64_at(terminated, &["exitCode"]).unwrap_or(0) == 0 {
                continue;
            }
            *status = format!("Init:{}", ended(terminated));
        } else if sidecar && meta::bool_at(container, &["started"]) {
            *ready += usize::from(meta::bool_at(container, &["ready"]));
            continue;
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            *status = format!("Init:{waiting}");
        } else {
            *status = format!("Init:{i}/{count}");
        }
        return true;
    }
    false
}

fn ended(terminated: &Value) -> String {
    let (reason, signal) = (meta::str_at(terminated, &["reason"]), meta::i64_at(terminated, &["signal"]).unwrap_or(0));
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", meta::i64_at(terminated, &["exitCode"]).unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn containers(pod: &Value, status: &mut String, restarts: &mut Restarts, ready: &mut usize) {
    let mut running = false;
    for container in meta::list_at(pod, &["status", "containerStatuses"]).iter().rev() {
        restarts.add(container);
        let waiting = meta::str_at(container, &["state", "waiting", "reason"]);
        let terminated = meta::get(container, &["state", "terminated"]).filter(|t| t.is_object());
        if !waiting.is_empty() {
            *status = waiting.to_owned();
        } else if let Some(terminated) = terminated {
            *status = ended(terminated);
        } else if meta::bool_at(container, &["ready"]) && meta::get(container, &["state", "running"]).is_some() {
            running = true;
            *ready += 1;
        }
    }
    // One finished container does not finish a pod whose others run.
    if status == "Completed" && running {
        let is_ready = meta::list_at(pod, &["status", "conditions"])
            .iter()
            .any(|c| meta::str_at(c, &["type"]) == "Ready" && meta::str_at(c, &["status"]) == "True");
        *status = if is_ready { "Running".into() } else { "NotReady".into() };
    }
}

/// The cells of a pod.
pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summary(pod, now);
    let or_none = |text: &str| json!(if text.is_empty() { "<none>" } else { text });
    let first_ip = meta::list_at(pod, &["status", "podIPs"]).first().map_or("", |ip| meta::str_at(ip, &["ip"]));
    let ip = if first_ip.is_empty() { meta::str_at(pod, &["status", "podIP"]) } else { first_ip };
    vec![
        meta::name(pod).into(),
        summary.ready.into(),
        summary.status.into(),
        summary.restarts.into(),
        since(meta::creation_timestamp(pod), now).into(),
        or_none(ip),
        or_none(meta::str_at(pod, &["spec", "nodeName"])),
        or_none(meta::str_at(pod, &["status", "nominatedNodeName"])),
        or_none(&gates(pod)),
    ]
}

fn gates(pod: &Value) -> String {
    let gates = meta::list_at(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return String::new();
    }
    let conditions = meta::list_at(pod, &["status", "conditions"]);
    let met = gates.iter().filter(|gate| {
        let kind = meta::str_at(gate, &["conditionType"]);
        conditions.iter().any(|c| meta::str_at(c, &["type"]) == kind && meta::str_at(c, &["status"]) == "True")
    });
    format!("{}/{}", met.count(), gates.len())
}

/// Finished pods are marked so that `kubectl get` can leave them out.
pub(super) fn row_conditions(pod: &Value) -> Vec<Value> {
    let phase = meta::str_at(pod, &["status", "phase"]);
    if !matches!(phase, "Succeeded" | "Failed") {
        return Vec::new();
    }
    let message = if phase == "Succeeded" { "The pod has completed successfully." } else { "The pod failed." };
    vec![json!({"type": "Completed", "status": "True", "reason": phase, "message": message})]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pod: Value, ready: &str, status: &str, restarts: &str) {
        let now = "2026-11-21T02:05:00Z".parse().expect("a time");
        let got = summary(&pod, now);
        assert_eq!(
            (got.ready.as_str(), got.status.as_str(), got.restarts.as_str()),
            (ready, status, restarts),
            "{pod}"
        );
    }

    #[test]
    fn pods_sum_up_as_upstream() {
        let spec = json!({"containers": [{"name": "c"}]});
        let running = json!({"name": "c", "ready": true, "state": {"running": {}}});
        check(json!({"spec": spec, "status": {"phase": "Pending"}}), "0/1", "Pending", "0");
        check(
            json!({"spec": spec, "status": {"phase": "Running", "containerStatuses": [running]}}),
            "1/1",
            "Running",
            "0",
        );
        check(
            json!({"spec": spec, "status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"finishedAt": "2026-11-21T02:04:30Z"}}}]}}),
            "0/1",
            "CrashLoopBackOff",
            "3 (30s ago)",
        );
        check(
            json!({"spec": spec, "status": {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}]}}),
            "0/1",
            "Completed",
            "0",
        );
        check(
            json!({"metadata": {"deletionTimestamp": "t"}, "spec": spec, "status": {"phase": "Running", "containerStatuses": [running]}}),
            "1/1",
            "Terminating",
            "0",
        );
        check(
            json!({"spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]}, "status": {"phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}],
                "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}]}}),
            "0/1",
            "Init:1/2",
            "0",
        );
        check(json!({"spec": spec, "status": {"phase": "Failed", "reason": "Evicted"}}), "0/1", "Evicted", "0");
    }
}
