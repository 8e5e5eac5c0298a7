//! Reading request bodies, with a bound.

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::time::Duration;
use xebec_api::Status;

/// Largest request body, in bytes (upstream's `MaxRequestBodyBytes`).
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Time a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a whole body.
///
/// # Errors
/// 413 if it is larger than [`BODY_BYTES_MAX`], 400 if it breaks off.
pub async fn read_body(body: Incoming) -> Result<Bytes, Status> {
    let too_large = || Status::request_entity_too_large(&format!("limit is {BODY_BYTES_MAX}"));
    let announced = hyper::body::Body::size_hint(&body).lower();
    if announced > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(error)) => Err(Status::bad_request(format!("the request body cannot be read: {error}"))),
        Err(_) => Err(Status::bad_request("the request body did not arrive in time")),
    }
}
