//! ServiceAccount: every pod runs as one, and gets its token.

use serde_json::{Value, json};
use xebec_api::{Status, meta};

use super::{Request, Snapshot};

/// Where the credentials are mounted.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// One hour and seven seconds: the odd number marks tokens made by this plugin (KEP-1205).
const TOKEN_SECONDS: i64 = 3607;

pub(super) fn admit(snapshot: &dyn Snapshot, request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !request.creates("", "pods") || meta::annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return Ok(());
    }
    if meta::str_at(pod, &["spec", "serviceAccountName"]).is_empty() {
        meta::set(pod, &["spec", "serviceAccountName"], "default".into());
    }
    let name = meta::str_at(pod, &["spec", "serviceAccountName"]).to_owned();
    meta::set(pod, &["spec", "serviceAccount"], name.as_str().into());
    let Some(account) = snapshot.get("", "serviceaccounts", request.namespace, &name) else {
        let namespace = request.namespace;
        return Err(request.forbidden(format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        )));
    };
    let own = meta::get(pod, &["spec", "automountServiceAccountToken"]).and_then(Value::as_bool);
    let of_account = account.get("automountServiceAccountToken").and_then(Value::as_bool);
    if own.or(of_account).unwrap_or(true) {
        mount_token(request, pod);
    }
    if meta::list_at(pod, &["spec", "imagePullSecrets"]).is_empty() {
        let secrets = meta::list_at(&account, &["imagePullSecrets"]);
        if !secrets.is_empty() {
            meta::set(pod, &["spec", "imagePullSecrets"], secrets.to_vec().into());
        }
    }
    Ok(())
}

fn mount_token(request: &Request<'_>, pod: &mut Value) {
    let existing = meta::list_at(pod, &["spec", "volumes"])
        .iter()
        .map(|volume| meta::str_at(volume, &["name"]))
        .find(|name| name.starts_with("kube-api-access-"))
        .map(str::to_owned);
    // Distinct from the suffix of a generated pod name.
    let volume = existing.clone().unwrap_or_else(|| format!("kube-api-access-{}", request.ctx.suffix(1 << 32)));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let containers = meta::get_mut(pod, &["spec", list]).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mounts = meta::list_at(container, &["volumeMounts"]);
            if mounts.iter().any(|mount| meta::str_at(mount, &["mountPath"]) == MOUNT_PATH) {
                continue;
            }
            let mut mounts = mounts.to_vec();
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            container["volumeMounts"] = mounts.into();
            mounted = true;
        }
    }
    if !mounted || existing.is_some() {
        return;
    }
    let mut volumes = meta::list_at(pod, &["spec", "volumes"]).to_vec();
    volumes.push(json!({"name": volume, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}}));
    meta::set(pod, &["spec", "volumes"], volumes.into());
}

#[cfg(test)]
mod tests {
    use super::super::test_world::World;
    use super::super::{Operation, Request};
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
        admit(world, &request, &mut pod).map(|()| pod).map_err(|status| status.message)
    }

    #[test]
    fn pods_get_their_account_and_token() {
        let world = World::default().with("/serviceaccounts/ns/default", json!({"imagePullSecrets": [{"name": "s"}]}));
        let pod = run(&world, json!({"spec": {"containers": [{"name": "c"}]}})).expect("admitted");
        assert_eq!(pod["spec"]["serviceAccountName"], json!("default"));
        let volume = &pod["spec"]["volumes"][0];
        assert_eq!(volume["name"], pod["spec"]["containers"][0]["volumeMounts"][0]["name"]);
        assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], json!(3607));
        assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "s"}]));
        let bare = run(&world, json!({"spec": {"automountServiceAccountToken": false, "containers": [{"name": "c"}]}}))
            .expect("admitted");
        assert!(bare["spec"].get("volumes").is_none());
        assert_eq!(
            run(&World::default(), json!({"spec": {}})),
            Err("pods \"p\" is forbidden: error looking up service account ns/default: serviceaccount \"default\" not found".into())
        );
    }
}
