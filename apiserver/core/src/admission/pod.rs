//! Priority, DefaultTolerationSeconds, RuntimeClass, DefaultStorageClass.

use std::cmp::Reverse;

use serde_json::{Value, json};
use xebec_api::{Status, meta};

use super::{Operation, Request, Snapshot};

/// How long a pod stays on a node that is not ready or not reachable.
const TOLERATION_SECONDS: i64 = 300;
/// Priority classes that exist before anyone has created them.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub(super) fn priority(snapshot: &dyn Snapshot, request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !request.creates("", "pods") {
        return Ok(());
    }
    let name = meta::str_at(pod, &["spec", "priorityClassName"]).to_owned();
    let (class_name, value, policy) = if name.is_empty() {
        default_class(snapshot)
    } else {
        let class = snapshot.get("scheduling.k8s.io", "priorityclasses", "", &name);
        let built_in = SYSTEM_CLASSES.iter().find(|(class, _)| *class == name).map(|(_, value)| *value);
        match (class, built_in) {
            (Some(class), _) => (
                name,
                meta::i64_at(&class, &["value"]).unwrap_or(0),
                meta::str_at(&class, &["preemptionPolicy"]).to_owned(),
            ),
            (None, Some(value)) => (name, value, String::new()),
            (None, None) => return Err(request.forbidden(format!("no PriorityClass with name {name} was found"))),
        }
    };
    let given = meta::i64_at(pod, &["spec", "priority"]);
    if let Some(given) = given.filter(|given| *given != value) {
        return Err(request.forbidden(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; \
             priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    if !class_name.is_empty() {
        meta::set(pod, &["spec", "priorityClassName"], class_name.into());
    }
    meta::set(pod, &["spec", "priority"], value.into());
    if meta::str_at(pod, &["spec", "preemptionPolicy"]).is_empty() {
        let policy = if policy.is_empty() { "PreemptLowerPriority".into() } else { policy };
        meta::set(pod, &["spec", "preemptionPolicy"], policy.into());
    }
    Ok(())
}

/// Of several global defaults the one with the lowest value counts.
fn default_class(snapshot: &dyn Snapshot) -> (String, i64, String) {
    let classes = snapshot.list("scheduling.k8s.io", "priorityclasses", "");
    let default = classes
        .iter()
        .filter(|class| meta::bool_at(class, &["globalDefault"]))
        .min_by_key(|class| meta::i64_at(class, &["value"]).unwrap_or(0));
    default.map_or((String::new(), 0, String::new()), |class| {
        let policy = meta::str_at(class, &["preemptionPolicy"]).to_owned();
        (meta::name(class).to_owned(), meta::i64_at(class, &["value"]).unwrap_or(0), policy)
    })
}

pub(super) fn toleration_seconds(request: &Request<'_>, pod: &mut Value) {
    let writes = matches!(request.operation, Operation::Create | Operation::Update) && request.subresource.is_empty();
    if !writes || !request.is("", "pods") {
        return;
    }
    let mut tolerations = meta::list_at(pod, &["spec", "tolerations"]).to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|toleration| {
            let (own, effect) = (meta::str_at(toleration, &["key"]), meta::str_at(toleration, &["effect"]));
            (own == key || own.is_empty()) && matches!(effect, "NoExecute" | "")
        });
        if !tolerated {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}));
        }
    }
    meta::set(pod, &["spec", "tolerations"], tolerations.into());
}

pub(super) fn runtime_class(snapshot: &dyn Snapshot, request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = meta::str_at(pod, &["spec", "runtimeClassName"]).to_owned();
    if !request.creates("", "pods") || name.is_empty() {
        return Ok(());
    }
    let Some(class) = snapshot.get("node.k8s.io", "runtimeclasses", "", &name) else {
        return Err(request.forbidden(format!("pod rejected: RuntimeClass {name:?} not found")));
    };
    if let Some(overhead) = meta::get(&class, &["overhead", "podFixed"]) {
        meta::set(pod, &["spec", "overhead"], overhead.clone());
    }
    for (key, value) in
        meta::get(&class, &["scheduling", "nodeSelector"]).and_then(Value::as_object).into_iter().flatten()
    {
        meta::set(pod, &["spec", "nodeSelector", key], value.clone());
    }
    Ok(())
}

pub(super) fn default_storage_class(snapshot: &dyn Snapshot, request: &Request<'_>, claim: &mut Value) {
    let unset = meta::get(claim, &["spec", "storageClassName"]).is_none_or(Value::is_null);
    if !request.creates("", "persistentvolumeclaims") || !unset {
        return;
    }
    const DEFAULT: [&str; 2] =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let classes = snapshot.list("storage.k8s.io", "storageclasses", "");
    let defaults =
        classes.iter().filter(|class| DEFAULT.iter().any(|key| meta::annotation(class, key) == Some("true")));
    // The newest default wins, then the first by name.
    let chosen = defaults.min_by_key(|class| {
        (Reverse(meta::creation_timestamp(class).unwrap_or("").to_owned()), meta::name(class).to_owned())
    });
    if let Some(class) = chosen {
        meta::set(claim, &["spec", "storageClassName"], meta::name(class).into());
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_world::World;
    use super::*;
    use crate::context::{User, test_context};
    use xebec_api::GroupResource;

    fn run(world: &World, mut pod: Value) -> Result<Value, String> {
        let (ctx, resource) = (test_context(User::default()), GroupResource::new("", "pods"));
        let request = Request {
            operation: Operation::Create,
            resource: &resource,
            subresource: "",
            namespace: "ns",
            name: "p",
            old: None,
            ctx: &ctx,
        };
        toleration_seconds(&request, &mut pod);
        priority(world, &request, &mut pod).map(|()| pod).map_err(|status| status.message)
    }

    #[test]
    fn pods_get_priority_and_tolerations() {
        let world = World::default()
            .with("scheduling.k8s.io/priorityclasses//high", json!({"metadata": {"name": "high"}, "value": 9}))
            .with(
                "scheduling.k8s.io/priorityclasses//std",
                json!({"metadata": {"name": "std"}, "value": 3, "globalDefault": true}),
            );
        let pod = run(&world, json!({"spec": {}})).expect("admitted");
        assert_eq!((&pod["spec"]["priority"], &pod["spec"]["priorityClassName"]), (&json!(3), &json!("std")));
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
        let pod = run(&world, json!({"spec": {"priorityClassName": "high", "tolerations": [{"operator": "Exists"}]}}))
            .expect("admitted");
        assert_eq!(
            (&pod["spec"]["priority"], pod["spec"]["tolerations"].as_array().map(Vec::len)),
            (&json!(9), Some(1))
        );
        assert!(run(&world, json!({"spec": {"priorityClassName": "nope"}})).is_err());
        assert!(run(&world, json!({"spec": {"priority": 7}})).is_err());
        assert_eq!(run(&World::default(), json!({"spec": {}})).expect("admitted")["spec"]["priority"], json!(0));
    }
}
