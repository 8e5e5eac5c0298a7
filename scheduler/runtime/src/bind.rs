//! The writes of the scheduler, all under its fence.

use http::{Method, Request};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use xebec_client::ObjectKey;

/// Binds a pod to a node through `pods/binding`, on condition that it is still the same pod.
pub(crate) async fn bind(client: &Client, key: &ObjectKey, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": key.namespace, "name": key.name, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/api/v1/namespaces/{}/pods/{}/binding", key.namespace, key.name))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(binding.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request::<serde_json::Value>(request).await.map(drop)
}

/// Says in the pod's status why it is not scheduled; writes only if that changes anything.
pub(crate) async fn report(
    client: &Client,
    pod: &Pod,
    reason: &str,
    message: &str,
    nominated: Option<&str>,
) -> Result<(), kube::Error> {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let present = conditions.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    let same = |condition: &PodCondition| {
        condition.status == "False"
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_deref() == Some(message)
    };
    let nominated_now = status.and_then(|status| status.nominated_node_name.as_deref());
    if present.is_some_and(same) && nominated.is_none_or(|node| nominated_now == Some(node)) {
        return Ok(());
    }
    // The transition time tells when the status last changed, not the message (`podutil.UpdatePodCondition`).
    let since = present
        .filter(|condition| condition.status == "False")
        .and_then(|condition| condition.last_transition_time.as_ref().map(|time| time.0))
        .unwrap_or_else(Timestamp::now);
    let mut status = json!({"conditions": [{
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(since),
    }]});
    if let Some(node) = nominated {
        status["nominatedNodeName"] = json!(node);
    }
    let key = ObjectKey::of(pod);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    pods.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
}

/// Deletes a pod that gives way to a more important one.
pub(crate) async fn evict(client: &Client, key: &ObjectKey, uid: &str) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    pods.delete(&key.name, &params).await.map(drop)
}
