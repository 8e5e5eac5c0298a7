//! DELETE.

use super::body::Payload;
use super::read::collect;
use super::{Call, Deleted, delete_object, options_status, respond};
use crate::http::{Reply, json_reply};
use http::StatusCode;
use serde_json::{Value, json};
use xebec_api::{GroupVersionKind, Status, meta};
use xebec_apiserver_core::request::{DeleteOptions, FieldValidation, ListOptions};

/// DELETE of one object.
pub async fn delete(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    let options = options(call, payload)?;
    match delete_object(call, &call.info.name, &options).await? {
        Deleted::Marked(object) => {
            // Pods and others that linger are answered with themselves; 202 says that it is not done.
            let waits_for_others = !meta::finalizers(&object).is_empty();
            let code =
                if waits_for_others && call.info.resource != "pods" { StatusCode::ACCEPTED } else { StatusCode::OK };
            let code =
                if code == StatusCode::ACCEPTED && options.propagation.is_none() { StatusCode::OK } else { code };
            respond::object(call, code, &object)
        }
        Deleted::Gone(object) if returns_object(call) => respond::object(call, StatusCode::OK, &object),
        Deleted::Gone(object) => {
            let status = Status::deleted(&call.served.row.resource, meta::name(&object), meta::uid(&object));
            Ok(json_or_protobuf(call, &status))
        }
    }
}

/// Kinds whose removal answers with the object (upstream's `ReturnDeletedObject`).
fn returns_object(call: &Call) -> bool {
    matches!(
        (call.info.api_group.as_str(), call.info.resource.as_str()),
        (
            "",
            "pods"
                | "services"
                | "serviceaccounts"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
        ) | ("policy", "poddisruptionbudgets")
            | ("storage.k8s.io", _)
    )
}

fn json_or_protobuf(call: &Call, status: &Status) -> Reply {
    respond::value(call, StatusCode::OK, &status.to_value())
        .unwrap_or_else(|_| json_reply(StatusCode::OK, &status.to_value()))
}

fn options(call: &Call, payload: &Payload) -> Result<DeleteOptions, Status> {
    if payload.bytes.is_empty() {
        return DeleteOptions::from_query(&call.query).map_err(options_status);
    }
    let gvk = GroupVersionKind::new("", "v1", "DeleteOptions");
    let (body, _) = payload.object_of(&gvk, FieldValidation::Ignore)?;
    DeleteOptions::from_body(&body).map_err(options_status)
}

/// DELETE of a collection: what is listed is deleted one by one.
pub async fn delete_collection(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    let options = options(call, payload)?;
    let list = ListOptions::parse(&call.query, false).map_err(options_status)?;
    let listed = collect(call, &list).await?;
    let mut items: Vec<Value> = Vec::with_capacity(listed.entries.len());
    for entry in &listed.entries {
        let object = entry.value();
        let mut one = super::Call::internal(
            &call.app,
            &call.served,
            xebec_apiserver_core::request::Verb::Delete,
            meta::namespace(&object),
            meta::name(&object),
        );
        one.ctx = call.ctx.clone();
        one.fence.clone_from(&call.fence);
        match delete_object(&one, meta::name(&object), &options).await {
            Ok(Deleted::Gone(object) | Deleted::Marked(object)) => items.push(object),
            // Somebody else was faster.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let gvk = &call.served.row.gvk;
    let list = json!({"apiVersion": gvk.api_version(), "kind": call.served.list_kind,
        "metadata": {"resourceVersion": listed.revision.to_string()}, "items": items});
    respond::value(call, StatusCode::OK, &list)
}
