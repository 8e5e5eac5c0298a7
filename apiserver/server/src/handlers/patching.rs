//! PATCH: JSON, merge, strategic merge, server-side apply.

use super::body::{Payload, check_strict};
use super::writing::{of_subresource, writer};
use super::{Call, Change, respond, update_object};
use crate::http::Reply;
use serde_json::Value;
use xebec_api::{Status, codec, meta};
use xebec_apiserver_core::patch::apply::{apply, track_update};
use xebec_apiserver_core::patch::{PatchError, PatchType, json_patch, merge_patch, strategic_merge_patch};
use xebec_apiserver_core::request::WriteOptions;

/// PATCH of an object or of a subresource that has the object's shape.
pub async fn patch(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    let options = call.write_options("PatchOptions")?;
    let mut patch = Patch::read(call, payload, options)?;
    let options = patch.options.clone();
    let written = update_object(call, &call.info.name, &options, &mut patch).await?;
    respond::written(call, &written, &patch.warnings)
}

struct Patch<'a> {
    call: &'a Call,
    kind: PatchType,
    body: Value,
    options: WriteOptions,
    warnings: Vec<String>,
}

impl<'a> Patch<'a> {
    fn read(call: &'a Call, payload: &Payload, options: WriteOptions) -> Result<Self, Status> {
        let unsupported = || Status::unsupported_media_type(&PatchType::ACCEPTED);
        let kind = PatchType::of_content_type(&payload.content_type).ok_or_else(unsupported)?;
        if kind == PatchType::Strategic && !call.served.has_protobuf {
            return Err(unsupported());
        }
        if kind == PatchType::Apply && options.field_manager.is_empty() {
            return Err(Status::failure(
                422,
                "Invalid",
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ));
        }
        if kind != PatchType::Apply && options.force {
            return Err(Status::failure(
                422,
                "Invalid",
                "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
            ));
        }
        let mut warnings = Vec::new();
        let body = if kind == PatchType::Apply {
            let body: Value = serde_saphyr::from_slice(&payload.bytes)
                .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
            let decoded = codec::decode_value(&call.served.row.gvk, &body)
                .map_err(|error| Status::bad_request(error.to_string()))?;
            warnings = check_strict(&call.served.row.gvk, &decoded.strict, options.field_validation)?;
            check_applied(call, &body)?;
            body
        } else {
            serde_json::from_slice(&payload.bytes)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?
        };
        Ok(Self { call, kind, body, options, warnings })
    }

    /// The patched object, decoded like a body.
    fn patched(&mut self, stored: &Value) -> Result<Value, Status> {
        let gvk = &self.call.served.row.gvk;
        let patched = match self.kind {
            PatchType::Json => json_patch(stored, &self.body),
            PatchType::Merge => merge_patch(stored, &self.body),
            PatchType::Strategic => strategic_merge_patch(gvk, stored, &self.body),
            PatchType::Apply => {
                return apply(gvk, Some(stored), &self.body, writer(self.call), self.options.force, &self.call.ctx);
            }
        };
        let patched = patched.map_err(|error: PatchError| error.to_status())?;
        if !self.call.served.has_protobuf {
            return Ok(patched);
        }
        let decoded = codec::decode_value(gvk, &patched).map_err(|error| Status::bad_request(error.to_string()))?;
        self.warnings = check_strict(gvk, &decoded.strict, self.options.field_validation)?;
        let mut new = decoded.value;
        meta::set_gvk(&mut new, gvk);
        let mut new = of_subresource(self.call, stored, new)?;
        track_update(gvk, &mut new, Some(stored), writer(self.call), &self.call.ctx);
        Ok(new)
    }
}

impl Change for Patch<'_> {
    fn apply(&mut self, stored: &Value) -> Result<Value, Status> {
        self.patched(stored)
    }

    fn absent(&mut self) -> Result<Option<Value>, Status> {
        if self.kind != PatchType::Apply || !self.call.info.subresource.is_empty() || !meta::uid(&self.body).is_empty()
        {
            return Ok(None);
        }
        let gvk = &self.call.served.row.gvk;
        let mut new = apply(gvk, None, &self.body, writer(self.call), self.options.force, &self.call.ctx)?;
        meta::set_name(&mut new, &self.call.info.name);
        Ok(Some(new))
    }

    fn repeats(&self) -> bool {
        // A patch that names a version is bound to it.
        meta::resource_version(&self.body).is_empty()
    }
}

fn check_applied(call: &Call, body: &Value) -> Result<(), Status> {
    let gvk = &call.served.row.gvk;
    let (api_version, kind) = (meta::api_version(body), meta::kind(body));
    if kind.is_empty() || api_version.is_empty() {
        return Err(Status::bad_request("the applied object must have apiVersion and kind"));
    }
    if kind != gvk.kind || api_version != gvk.api_version() {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {api_version}, expected: {}",
            gvk.api_version()
        )));
    }
    let name = meta::name(body);
    if !name.is_empty() && name != call.info.name {
        let message =
            format!("the name of the object ({name}) does not match the name on the URL ({})", call.info.name);
        return Err(Status::bad_request(message));
    }
    if meta::get(body, &["metadata", "managedFields"])
        .is_some_and(|fields| fields.as_array().is_some_and(|list| !list.is_empty()))
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}
