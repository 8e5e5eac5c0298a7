//! The scale subresource.

use super::body::Payload;
use super::{Call, Change, respond, update_object};
use crate::http::Reply;
use http::StatusCode;
use serde_json::Value;
use xebec_api::{GroupVersionKind, Status, codec, meta};
use xebec_apiserver_core::patch::{PatchType, json_patch, merge_patch, strategic_merge_patch};
use xebec_apiserver_core::subresource::{apply_scale, scale_of};

fn scale_gvk() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

/// GET of the scale.
pub async fn get(call: &Call) -> Result<Reply, Status> {
    let stored = call.app.objects.get(&call.served, &call.info.namespace, &call.info.name).await?;
    let stored = stored.ok_or_else(|| Status::not_found(&call.served.row.resource, &call.info.name))?;
    let scale = scale_of(&stored.object).ok_or_else(Status::path_not_found)?;
    respond::object(call, StatusCode::OK, &scale)
}

/// PUT or PATCH of the scale.
pub async fn change(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    let patching = PatchType::of_content_type(&payload.content_type);
    let options = call.write_options(if patching.is_some() { "PatchOptions" } else { "UpdateOptions" })?;
    let (kind, body) = match patching {
        None => (None, payload.object_of(&scale_gvk(), options.field_validation)?.0),
        Some(PatchType::Apply) => return Err(Status::unsupported_media_type(&PatchType::ACCEPTED)),
        Some(kind) => {
            let body = serde_json::from_slice(&payload.bytes)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            (Some(kind), body)
        }
    };
    let mut change = Scale { call, kind, body };
    let written = update_object(call, &call.info.name, &options, &mut change).await?;
    let scale = scale_of(&written.object).ok_or_else(Status::path_not_found)?;
    respond::object(call, StatusCode::OK, &scale)
}

struct Scale<'a> {
    call: &'a Call,
    kind: Option<PatchType>,
    body: Value,
}

impl Change for Scale<'_> {
    fn apply(&mut self, stored: &Value) -> Result<Value, Status> {
        let current = scale_of(stored).ok_or_else(Status::path_not_found)?;
        let wanted = match self.kind {
            None => Ok(self.body.clone()),
            Some(PatchType::Json) => json_patch(&current, &self.body),
            Some(PatchType::Strategic) => strategic_merge_patch(&scale_gvk(), &current, &self.body),
            Some(_) => merge_patch(&current, &self.body),
        };
        let wanted = wanted.map_err(|error| error.to_status())?;
        let wanted =
            codec::decode_value(&scale_gvk(), &wanted).map_err(|error| Status::bad_request(error.to_string()))?.value;
        apply_scale(stored, &wanted, &self.call.served.row.resource)
    }

    fn repeats(&self) -> bool {
        self.kind.is_some() || meta::resource_version(&self.body).is_empty()
    }
}
