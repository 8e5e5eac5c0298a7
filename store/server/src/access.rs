//! Who may use plain HTTP, by host and origin (etcd `server/embed/serve.go`, `accessController`).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::health::plain_error;

/// What `--cors` and `--host-whitelist` allow.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    origins: Arc<[String]>,
    hosts: Arc<[String]>,
    /// With TLS the host is not looked at: a certificate has proved it.
    is_tls: bool,
}

fn names(list: &[String], name: &str) -> bool {
    list.iter().all(String::is_empty) || list.iter().any(|known| known == "*" || known == name)
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

impl Access {
    pub fn new(origins: &[String], hosts: &[String], is_tls: bool) -> Self {
        Self { origins: origins.into(), hosts: hosts.into(), is_tls }
    }

    fn add_cors(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let allowed = if names(&self.origins, "*") {
            HeaderValue::from_static("*")
        } else {
            match origin {
                Some(origin) if origin.to_str().is_ok_and(|origin| names(&self.origins, origin)) => origin.clone(),
                _ => return,
            }
        };
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        let names = HeaderValue::from_static("accept, content-type, authorization");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
}

/// Around every plain HTTP request.
pub(crate) async fn control(State(access): State<Access>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().host()).map(host_name).unwrap_or_default().to_owned();
    if !access.is_tls && !names(&access.hosts, &host) {
        tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
        let reason = format!(
            "The Host header {host:?} is not among --host-whitelist. Add it there, or use TLS, with which every host is \
             accepted: this keeps web pages from reaching the store through DNS rebinding (CVE-2018-5702)."
        );
        return plain_error(StatusCode::MISDIRECTED_REQUEST, &reason);
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    };
    access.add_cors(origin.as_ref(), response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_their_port_and_an_empty_list_allows_all() {
        assert_eq!(["h:1", "h", "[::1]:2379", "1.2.3.4:5"].map(host_name), ["h", "h", "::1", "1.2.3.4"]);
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(names(&list(&[]), "a") && names(&list(&["*"]), "a") && names(&list(&["b", "a"]), "a"));
        assert!(!names(&list(&["b"]), "a"));
    }
}
