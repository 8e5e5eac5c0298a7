//! Decoding request bodies.

use super::Call;
use crate::http;
use ::http::header::CONTENT_TYPE;
use ::http::{HeaderMap, Request};
use bytes::Bytes;
use serde_json::Value;
use xebec_api::codec::{self, Decoded, StrictError};
use xebec_api::{GroupVersionKind, Status, meta};
use xebec_apiserver_core::request::{FieldValidation, MediaType, negotiate_input};

/// Warnings sent for one request; upstream bounds them by size instead.
const WARNINGS_MAX: usize = 64;

/// A request's body.
pub struct Payload {
    /// The bytes.
    pub bytes: Bytes,
    /// Content-Type as given.
    pub content_type: String,
}

impl Payload {
    /// Reads the body of a request.
    pub async fn read(request: Request<hyper::body::Incoming>) -> Result<Self, Status> {
        let content_type = content_type(request.headers()).to_owned();
        Ok(Self { bytes: http::read_body(request.into_body()).await?, content_type })
    }

    /// The object of the call's kind, with warnings about fields.
    pub fn object(&self, call: &Call, validation: FieldValidation) -> Result<(Value, Vec<String>), Status> {
        self.object_of(&call.served.row.gvk, validation)
    }

    /// An object of this kind, with warnings about fields.
    pub fn object_of(
        &self,
        gvk: &GroupVersionKind,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let media = negotiate_input(&self.content_type).map_err(super::negotiation_status)?;
        let bad = |error: codec::Error| undecodable(gvk, &error);
        if media == MediaType::Protobuf {
            let unknown = codec::decode_envelope(&self.bytes).map_err(bad)?;
            expect_kind(gvk, unknown.api_version, unknown.kind)?;
            let mut object = codec::decode_protobuf(gvk, unknown.raw).map_err(bad)?;
            meta::set_gvk(&mut object, gvk);
            return Ok((object, Vec::new()));
        }
        let Decoded { value, strict } = match media {
            MediaType::Yaml => {
                let value: Value = serde_saphyr::from_slice(&self.bytes)
                    .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))?;
                expect_kind(gvk, meta::api_version(&value), meta::kind(&value))?;
                codec::decode_value(gvk, &value).map_err(bad)?
            }
            _ => {
                let (api_version, kind) = codec::peek_type(&self.bytes).map_err(bad)?;
                expect_kind(gvk, &api_version, &kind)?;
                codec::decode_json(gvk, &self.bytes).map_err(bad)?
            }
        };
        let warnings = check_strict(gvk, &strict, validation)?;
        let mut value = value;
        meta::set_gvk(&mut value, gvk);
        Ok((value, warnings))
    }
}

/// The Content-Type header, or nothing.
pub fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What becomes of fields that the kind does not have.
pub fn check_strict(
    gvk: &GroupVersionKind,
    strict: &[StrictError],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    strict_warnings(strict, validation).map_err(|refusal| {
        let GroupVersionKind { version, kind, .. } = gvk;
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {refusal}"))
    })
}

/// The warnings about such fields, or the words of their refusal.
pub fn strict_warnings(strict: &[StrictError], validation: FieldValidation) -> Result<Vec<String>, String> {
    match validation {
        _ if strict.is_empty() => Ok(Vec::new()),
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(strict.iter().take(WARNINGS_MAX).map(ToString::to_string).collect()),
        FieldValidation::Strict => Err(codec::strict_decoding_message(strict)),
    }
}

/// A body without type is taken for what the URL says; another type is refused.
fn expect_kind(gvk: &GroupVersionKind, api_version: &str, kind: &str) -> Result<(), Status> {
    let wanted = gvk.api_version();
    let generic = gvk.kind == "DeleteOptions" && kind == "DeleteOptions";
    if (kind.is_empty() || kind == gvk.kind) && (api_version.is_empty() || api_version == wanted) || generic {
        return Ok(());
    }
    let given = GroupVersionKind::from_api_version(api_version, kind).unwrap_or_default();
    if kind != gvk.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: converting ({}.{kind}) to ({}.{}): unknown conversion",
            given.version, gvk.kind, given.version, gvk.version, gvk.kind
        )));
    }
    Err(Status::bad_request(format!(
        "the API version in the data ({api_version}) does not match the expected API version ({wanted})"
    )))
}

fn undecodable(gvk: &GroupVersionKind, error: &codec::Error) -> Status {
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {error}",
        gvk.kind, gvk.version, gvk.kind
    ))
}
