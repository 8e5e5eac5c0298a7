//! Errors as grpc-gateway gives them.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tonic::{Code, Status};

/// "Client closed request", which has no name in HTTP.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A call that failed.
pub(super) struct Failure(pub Status);

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

/// HTTP's code for gRPC's (grpc-gateway `runtime.HTTPStatusFromCode`).
pub(super) fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Failure {
    /// The body: `error` is what older clients read, `code` and `message` the newer ones (grpc-gateway v1 and v2).
    pub fn body(&self) -> Value {
        let message = self.0.message();
        json!({ "error": message, "code": self.0.code() as i32, "message": message })
    }

    /// The last line of a stream.
    pub fn line(&self) -> String {
        let (code, http) = (self.0.code(), http_code(self.0.code()));
        let error = json!({
            "code": code as i32,
            "grpc_code": code as i32,
            "http_code": http.as_u16(),
            "http_status": http.canonical_reason().unwrap_or_default(),
            "message": self.0.message(),
        });
        format!("{}\n", json!({ "error": error }))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let kind = HeaderValue::from_static("application/json");
        (http_code(self.0.code()), [(header::CONTENT_TYPE, kind)], self.body().to_string()).into_response()
    }
}
