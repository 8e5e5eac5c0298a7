//! Reading request bodies, with a bound.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::time::Duration;
use xebec_api::Status;

/// Largest request body, in bytes (upstream's `MaxRequestBodyBytes`).
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Time a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a body that is too large which are still read, so that the client, who writes before it reads, sees the
/// refusal instead of a broken connection.
const DRAINED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads a whole body.
///
/// # Errors
/// 413 if it is larger than [`BODY_BYTES_MAX`], 400 if it breaks off.
pub async fn read_body(body: Incoming) -> Result<Bytes, Status> {
    tokio::time::timeout(BODY_TIMEOUT, collect(body))
        .await
        .unwrap_or_else(|_| Err(Status::bad_request("the request body did not arrive in time")))
}

async fn collect(mut body: Incoming) -> Result<Bytes, Status> {
    let mut collected = BytesMut::new();
    let mut seen = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("the request body cannot be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= BODY_BYTES_MAX {
            collected.extend_from_slice(&data);
        } else {
            collected.clear();
        }
        if seen > DRAINED_BYTES_MAX {
            break;
        }
    }
    if seen > BODY_BYTES_MAX {
        return Err(Status::request_entity_too_large(&format!("limit is {BODY_BYTES_MAX}")));
    }
    Ok(collected.freeze())
}
