//! Objects every cluster begins with. Idempotent; several masters may start at once.

use super::{ensure, reconcile};
use crate::app::App;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use xebec_api::{Status, meta};
use xebec_apiserver_core::rbac::{Rule, bootstrap as policy, covers};

const RBAC: &str = "rbac.authorization.k8s.io";
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Pause between two attempts while the store is away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Annotation that keeps a bootstrap object from being repaired.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// User under which all controllers of Xebec work, beside upstream's ServiceAccount per controller.
const CONTROLLER_USER: &str = "system:kube-controller-manager";
const CONTROLLER_PREFIX: &str = "system:controller:";

/// Creates and repairs everything, trying until it succeeds.
pub async fn bootstrap(app: Arc<App>) {
    loop {
        match attempt(&app).await {
            Ok(()) => break,
            Err(status) => tracing::warn!(code = status.code, message = status.message, "bootstrap: trying again"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    app.set_bootstrapped();
    tracing::info!("bootstrap objects are in place");
}

async fn attempt(app: &Arc<App>) -> Result<(), Status> {
    for name in NAMESPACES {
        let namespace = json!({"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}});
        ensure(app, "", "namespaces", &namespace).await?;
    }
    for object in policy::objects() {
        let resource = match meta::kind(&object) {
            "ClusterRole" => "clusterroles",
            "ClusterRoleBinding" => "clusterrolebindings",
            "Role" => "roles",
            _ => "rolebindings",
        };
        let object = with_controller_user(object);
        repair(app, resource, &object).await?;
    }
    for (name, value, description) in [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ] {
        let class = json!({"metadata": {"name": name}, "value": value, "description": description, "globalDefault": false, "preemptionPolicy": "PreemptLowerPriority"});
        ensure(app, "scheduling.k8s.io", "priorityclasses", &class).await?;
    }
    authentication_config(app).await
}

/// Controllers have one identity here: what upstream gives to each controller's account, it gets too.
fn with_controller_user(mut binding: Value) -> Value {
    let of_controller = meta::kind(&binding).ends_with("RoleBinding")
        && (meta::name(&binding).starts_with(CONTROLLER_PREFIX)
            || meta::str_at(&binding, &["roleRef", "name"]).starts_with(CONTROLLER_PREFIX));
    if of_controller && let Some(subjects) = binding.get_mut("subjects").and_then(Value::as_array_mut) {
        subjects.push(json!({"apiGroup": RBAC, "kind": "User", "name": CONTROLLER_USER}));
    }
    binding
}

/// Adds what is missing: rules of roles, subjects of bindings; what an administrator added stays.
async fn repair(app: &Arc<App>, resource: &str, object: &Value) -> Result<(), Status> {
    let wanted = object.clone();
    reconcile(app, RBAC, resource, object, move |stored| {
        if meta::annotation(stored, AUTO_UPDATE) == Some("false") {
            return None;
        }
        let mut new = stored.clone();
        if stored.get("roleRef").is_some() {
            let mut subjects = meta::list_at(stored, &["subjects"]).to_vec();
            let missing =
                meta::list_at(&wanted, &["subjects"]).iter().filter(|subject| !subjects.contains(subject)).cloned();
            let missing: Vec<Value> = missing.collect();
            if missing.is_empty() {
                return None;
            }
            subjects.extend(missing);
            new["subjects"] = Value::Array(subjects);
            return Some(new);
        }
        let rules =
            |object: &Value| -> Vec<Rule> { meta::list_at(object, &["rules"]).iter().map(Rule::from_value).collect() };
        let mut held = rules(stored);
        let missing = covers(&held, &rules(&wanted)).err()?;
        held.extend(missing);
        new["rules"] = held.iter().map(Rule::to_value).collect();
        Some(new)
    })
    .await
}

/// What extension API servers need to trust the front (kubernetes `pkg/controlplane/controller/clusterauthenticationtrust`).
async fn authentication_config(app: &Arc<App>) -> Result<(), Status> {
    let ca = app.settings.client_ca_pem.clone();
    let object = json!({
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {"client-ca-file": ca},
    });
    reconcile(app, "", "configmaps", &object, move |stored| {
        if meta::str_at(stored, &["data", "client-ca-file"]) == ca {
            return None;
        }
        let mut new = stored.clone();
        meta::set(&mut new, &["data", "client-ca-file"], Value::from(ca.as_str()));
        Some(new)
    })
    .await
}
