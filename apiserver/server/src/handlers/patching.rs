//! PATCH: JSON, merge, strategic merge, server-side apply.

use super::body::{Payload, strict_warnings};
use super::writing::{of_subresource, writer};
use super::{Call, Change, respond, update_object};
use crate::http::Reply;
use serde_json::Value;
use xebec_api::codec::StrictError;
use xebec_api::{GroupKind, Status, codec, field, meta};
use xebec_apiserver_core::patch::apply::{apply, track_update};
use xebec_apiserver_core::patch::{PatchError, PatchType, json_patch, merge_patch, strategic_merge_patch};
use xebec_apiserver_core::request::{OptionsError, WriteOptions};

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
            let why = "is required for apply patch";
            return Err(OptionsError::required("PatchOptions", "fieldManager", why).to_status());
        }
        if kind != PatchType::Apply && options.force {
            let why = "may not be specified for non-apply patch";
            return Err(OptionsError::forbidden("PatchOptions", "force", why).to_status());
        }
        let body = if kind == PatchType::Apply {
            let body: Value = serde_saphyr::from_slice(&payload.bytes)
                .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
            let decoded = codec::decode_value(&call.served.row.gvk, &body)
                .map_err(|error| Status::bad_request(error.to_string()))?;
            check_applied(call, &body)?;
            declared(call, &decoded.strict)?;
            body
        } else {
            serde_json::from_slice(&payload.bytes)
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?
        };
        Ok(Self { call, kind, body, options, warnings: Vec::new() })
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
        let decoded = codec::decode_value(gvk, &patched).map_err(|error| invalid_patch(&error.to_string()))?;
        self.warnings = strict_warnings(&decoded.strict, self.options.field_validation)
            .map_err(|refusal| invalid_patch(&refusal))?;
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
        if self.kind != PatchType::Apply || !self.call.info.subresource.is_empty() {
            return Ok(None);
        }
        let uid = meta::uid(&self.body);
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(&self.call.served.row.resource, &self.call.info.name, &why));
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

/// 422 of a patch whose outcome is no object of its kind (apiserver `handlers/patch.go`). Upstream's message holds the
/// patched object, too; ours does not, since it might be a Secret.
fn invalid_patch(why: &str) -> Status {
    let error = field::Error {
        error_type: field::ErrorType::Invalid,
        field: field::Path::new("patch"),
        bad_value: None,
        detail: why.to_owned(),
    };
    Status::invalid(&GroupKind::default(), "", &[error])
}

/// Who applies owns every field he states, so that an unknown one is refused whatever `fieldValidation` says
/// (apimachinery `managedfields/internal/structuredmerge.go`; its errors have neither a code nor a reason of their own).
fn declared(call: &Call, strict: &[StrictError]) -> Result<(), Status> {
    let unknown: Vec<String> = strict
        .iter()
        .map(|error| match error {
            StrictError::UnknownField(path) => format!(".{path}: field not declared in schema"),
            StrictError::DuplicateField(path) => format!(".{path}: duplicate entries for key"),
        })
        .collect();
    let list = match unknown.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let (gvk, info) = (&call.served.row.gvk, &call.info);
    let message = format!(
        "failed to create typed patch object ({}/{}; {}, Kind={}): {list}",
        info.namespace,
        info.name,
        gvk.api_version(),
        gvk.kind
    );
    Err(Status::failure(500, "", message))
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
