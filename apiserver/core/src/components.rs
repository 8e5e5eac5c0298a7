//! ComponentStatuses, what `kubectl get componentstatuses` shows (kubernetes `pkg/registry/core/componentstatus`).
//!
//! Upstream asks the loopback addresses of whatever API server answers. Here a component is healthy while its leader,
//! wherever that is, renews its Lease, and the store while it answers.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use xebec_api::{meta, time};

/// The elected components, and the Leases in `kube-system` that their leaders renew.
pub const ELECTED: [(&str, &str); 2] =
    [("controller-manager", "kube-controller-manager"), ("scheduler", "kube-scheduler")];

/// The status of an elected component, by its Lease.
pub fn of_lease(name: &str, lease: Option<&Value>, now: Timestamp) -> Value {
    let Some(lease) = lease else { return status(name, Err("nobody was elected yet")) };
    let renewed = meta::get(lease, &["spec", "renewTime"]).and_then(Value::as_str);
    let renewed = renewed.and_then(|text| time::parse_micro_time(text).ok());
    let seconds = meta::i64_at(lease, &["spec", "leaseDurationSeconds"]).unwrap_or(0);
    let until = renewed.and_then(|renewed| renewed.checked_add(SignedDuration::from_secs(seconds)).ok());
    let leads = until.is_some_and(|until| now <= until) && !meta::str_at(lease, &["spec", "holderIdentity"]).is_empty();
    status(name, if leads { Ok(()) } else { Err("the leader does not renew its lease") })
}

/// The status of the store.
pub fn of_store(answers: bool) -> Value {
    status("etcd-0", if answers { Ok(()) } else { Err("the store is not available") })
}

fn status(name: &str, health: Result<(), &str>) -> Value {
    let condition = match health {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(why) => json!({"type": "Healthy", "status": "False", "message": why}),
    };
    json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_healthy_while_its_leader_renews_its_lease() {
        let lease = json!({"spec": {"holderIdentity": "m1", "leaseDurationSeconds": 15, "renewTime": "2026-11-21T02:00:00.000000Z"}});
        for (now, expected) in [("2026-11-21T02:00:14Z", "True"), ("2026-11-21T02:00:16Z", "False")] {
            let found = of_lease("scheduler", Some(&lease), now.parse().expect("a time"));
            assert_eq!(found["conditions"][0]["status"], expected, "{now}");
        }
        assert_eq!(of_lease("scheduler", None, Timestamp::UNIX_EPOCH)["conditions"][0]["status"], "False");
        assert_eq!(of_store(true)["conditions"][0]["message"], "ok");
    }
}
