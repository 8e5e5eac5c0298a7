//! The live half of a ServiceAccount token's verification (kubernetes `pkg/serviceaccount/claims.go`).

use super::token::{Claims, ObjectName};
use crate::objects::Objects;
use serde_json::Value;
use xebec_api::{Status, meta};
use xebec_apiserver_core::User;

/// A token stays valid this long after its object was marked for deletion, in seconds.
const DELETION_LEEWAY_SECONDS: i64 = 60;

/// The user of verified claims, if the objects they are bound to still stand.
pub(super) async fn live_user(objects: &Objects, claims: &Claims, now: i64) -> Result<Option<User>, Status> {
    let bound = &claims.kubernetes;
    let namespace = bound.namespace.as_str();
    let account = &bound.serviceaccount;
    if !stands(objects, "serviceaccounts", namespace, account, now).await? {
        return Ok(None);
    }
    for (resource, namespace, object) in
        [("pods", namespace, &bound.pod), ("secrets", namespace, &bound.secret), ("nodes", "", &bound.node)]
    {
        // A pod's token also names its node, which may go before the pod does (kubernetes: only node-bound tokens check it).
        if resource == "nodes" && bound.pod.is_some() {
            continue;
        }
        if let Some(object) = object
            && !stands(objects, resource, namespace, object, now).await?
        {
            return Ok(None);
        }
    }
    let mut user = User { name: claims.sub.clone(), uid: account.uid.clone(), ..User::default() };
    user.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &bound.pod {
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        extra("node-name", &node.name);
        extra("node-uid", &node.uid);
    }
    Ok(Some(user))
}

async fn stands(
    objects: &Objects,
    resource: &str,
    namespace: &str,
    wanted: &ObjectName,
    now: i64,
) -> Result<bool, Status> {
    let Some(found) = objects.cached("", resource, namespace, &wanted.name).await? else { return Ok(false) };
    if wanted.uid == meta::uid(&found) {
        return Ok(!deleted_for_long(&found, now));
    }
    // The cache may still show the predecessor of an object just created anew.
    let live = objects.live("", resource, namespace, &wanted.name).await?;
    Ok(live.is_some_and(|(found, _)| wanted.uid == meta::uid(&found) && !deleted_for_long(&found, now)))
}

fn deleted_for_long(object: &Value, now: i64) -> bool {
    let deleted = meta::deletion_timestamp(object).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    deleted.is_some_and(|deleted| now > deleted.as_second() + DELETION_LEEWAY_SECONDS)
}
