//! The one place where failures become `Status` and `Status` becomes HTTP.

use super::reply::{Reply, bytes_reply, json_reply};
use crate::store::StoreError;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use xebec_api::{GroupVersionKind, Status, codec};
use xebec_apiserver_core::request::{MediaType, negotiate_output};

/// Seconds after which a client may try again when the store is away.
const STORE_RETRY_SECONDS: u32 = 1;

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(message) => {
                tracing::warn!(message, "store not available");
                Self::service_unavailable("the store is not available").with_retry_after_seconds(STORE_RETRY_SECONDS)
            }
            // What may have been committed must not look like a failure that changed nothing.
            StoreError::Ambiguous(message) => {
                tracing::warn!(message, "store request not acknowledged");
                Self::timeout("request did not complete within the allotted timeout; it may have been committed", 0)
            }
            StoreError::Compacted => expired(),
            StoreError::TooLarge(message) => Self::request_entity_too_large(&message),
            StoreError::Refused(message) => Self::internal_error(&message),
        }
    }
}

/// 410 of a revision that is not known any more, in upstream's words.
pub fn expired() -> Status {
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
    )
}

/// The answer that says `status`, in JSON.
pub fn status_reply(status: &Status) -> Reply {
    with_retry(status, json_reply(code_of(status), &status.to_value()))
}

/// The answer that says `status` to a client that accepts `accept`: in protobuf where that is what it prefers, otherwise
/// in JSON, which everybody reads.
pub fn status_reply_to(status: &Status, accept: &str) -> Reply {
    let wanted = negotiate_output(accept, None, "", false).map(|wanted| wanted.media);
    if wanted == Ok(MediaType::Protobuf)
        && let Ok(bytes) = codec::encode_envelope(&GroupVersionKind::new("", "v1", "Status"), &status.to_value())
    {
        return with_retry(status, bytes_reply(code_of(status), MediaType::Protobuf.as_str(), bytes));
    }
    status_reply(status)
}

fn code_of(status: &Status) -> StatusCode {
    StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn with_retry(status: &Status, mut reply: Reply) -> Reply {
    let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry));
    }
    reply
}
