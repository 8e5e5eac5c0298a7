//! POST and PUT.

use super::body::Payload;
use super::{Call, Change, create_object, respond, update_object};
use crate::http::Reply;
use serde_json::Value;
use xebec_api::{Status, meta};
use xebec_apiserver_core::patch::apply::{Writer, track_update};
use xebec_apiserver_core::subresource;

/// POST of an object.
pub async fn create(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    if !call.info.name.is_empty() {
        return Err(Status::method_not_allowed());
    }
    if call.served.row.namespaced && call.info.namespace.is_empty() {
        // Over all namespaces one can list and watch, no more.
        return Err(Status::method_not_allowed());
    }
    let options = call.write_options("CreateOptions")?;
    let (mut object, warnings) = payload.object(call, options.field_validation)?;
    track_update(&call.served.row.gvk, &mut object, None, writer(call), &call.ctx);
    let written = create_object(call, object, &options).await?;
    respond::written(call, &written, &warnings)
}

/// PUT of an object or of a subresource that has the object's shape.
pub async fn update(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    let options = call.write_options("UpdateOptions")?;
    let (mut object, warnings) = payload.object(call, options.field_validation)?;
    let name = call.info.name.as_str();
    match meta::name(&object) {
        "" => meta::set_name(&mut object, name),
        given if given != name => {
            let message = format!("the name of the object ({given}) does not match the name on the URL ({name})");
            return Err(Status::bad_request(message));
        }
        _ => {}
    }
    let mut change = Replace { call, object };
    let written = update_object(call, name, &options, &mut change).await?;
    respond::written(call, &written, &warnings)
}

/// Under whose name fields are owned.
pub fn writer(call: &Call) -> Writer<'_> {
    Writer { manager: &call.ctx.field_manager, subresource: &call.info.subresource }
}

struct Replace<'a> {
    call: &'a Call,
    object: Value,
}

impl Change for Replace<'_> {
    fn apply(&mut self, stored: &Value) -> Result<Value, Status> {
        let mut new = of_subresource(self.call, stored, self.object.clone())?;
        track_update(&self.call.served.row.gvk, &mut new, Some(stored), writer(self.call), &self.call.ctx);
        Ok(new)
    }

    fn absent(&mut self) -> Result<Option<Value>, Status> {
        let creates = self.call.served.row.strategy.create_on_update && self.call.info.subresource.is_empty();
        // A version or identity was expected: that object is gone.
        let expected = !meta::resource_version(&self.object).is_empty() || !meta::uid(&self.object).is_empty();
        if !creates || expected {
            return Ok(None);
        }
        let mut new = self.object.clone();
        track_update(&self.call.served.row.gvk, &mut new, None, writer(self.call), &self.call.ctx);
        Ok(Some(new))
    }

    fn repeats(&self) -> bool {
        false
    }
}

/// What a subresource takes over from an object sent to it.
pub fn of_subresource(call: &Call, stored: &Value, sent: Value) -> Result<Value, Status> {
    let of = (call.info.api_group.as_str(), call.info.resource.as_str(), call.info.subresource.as_str());
    let mut new = match of {
        ("", "namespaces", "finalize") => subresource::finalize_namespace(stored, &sent),
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
            subresource::approve_csr(stored, &sent, &call.ctx)?
        }
        ("certificates.k8s.io", "certificatesigningrequests", "status") => {
            subresource::update_csr_status(stored, &sent, &call.ctx)?
        }
        ("", "pods", "ephemeralcontainers") => {
            let mut pod = stored.clone();
            let containers = meta::list_at(&sent, &["spec", "ephemeralContainers"]).to_vec();
            meta::set(&mut pod, &["spec", "ephemeralContainers"], Value::Array(containers));
            pod
        }
        ("", "pods", "resize") => resized(stored, &sent),
        _ => return Ok(sent),
    };
    let version = meta::resource_version(&sent);
    if !version.is_empty() {
        meta::metadata_mut(&mut new).insert("resourceVersion".into(), Value::from(version));
    }
    Ok(new)
}

/// The stored pod with the resources of the containers sent (KEP-1287).
fn resized(stored: &Value, sent: &Value) -> Value {
    let mut pod = stored.clone();
    for list in ["containers", "initContainers"] {
        let Some(containers) = meta::get_mut(&mut pod, &["spec", list]).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let same = |other: &&Value| meta::str_at(other, &["name"]) == meta::str_at(container, &["name"]);
            let found = meta::list_at(sent, &["spec", list])
                .iter()
                .find(same)
                .and_then(|other| other.get("resources"))
                .cloned();
            if let Some(resources) = found {
                container["resources"] = resources;
            }
        }
    }
    pod
}
