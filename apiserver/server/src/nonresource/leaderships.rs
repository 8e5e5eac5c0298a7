//! `POST /xebec.io/v1/leaderships/{name}`: an election as a stream of lines.

use crate::app::App;
use crate::http::{Reply, bytes_reply, stream_body};
use crate::leadership::{campaign, valid_name};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, StatusCode};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use xebec_api::Status;
use xebec_apiserver_core::User;
use xebec_apiserver_core::rbac::Attributes;
use xebec_apiserver_core::request::Query;

const PREFIX: &str = "/xebec.io/v1/leaderships/";
/// Lines waiting for a slow client; a client this far behind counts its leadership as lost anyway.
const LINES_QUEUED_MAX: usize = 4;
/// Longest identity, in bytes.
const IDENTITY_BYTES_MAX: usize = 256;

/// The election that a path names.
pub fn election_of(path: &str) -> Option<&str> {
    path.strip_prefix(PREFIX)
}

/// Opens a campaign for `name`.
pub fn leadership(app: &Arc<App>, user: &User, method: &Method, name: &str, query: &Query) -> Result<Reply, Status> {
    if method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    if !valid_name(name) {
        return Err(Status::bad_request(format!("{name:?} is not the name of an election")));
    }
    let identity = query.get("identity").unwrap_or_default();
    if identity.is_empty() || identity.len() > IDENTITY_BYTES_MAX || identity.chars().any(char::is_control) {
        return Err(Status::bad_request("the parameter identity is missing or not valid"));
    }
    let lease = Attributes::of_resource(user, "update", "coordination.k8s.io", "leases", "kube-system", name);
    app.authorizer.check_attributes(&lease)?;
    let (sender, receiver) = mpsc::channel(LINES_QUEUED_MAX);
    let (store, stop) = (Arc::clone(&app.objects.store), app.stop.clone());
    let (election, identity) = (name.to_owned(), identity.to_owned());
    tokio::spawn(async move {
        // The campaign notices by itself when the client goes: its receiver is dropped with the body.
        campaign(store, election, identity, sender, stop).await;
    });
    let lines = ReceiverStream::new(receiver).map(|line| {
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Bytes::from(text)
    });
    let mut reply = bytes_reply(StatusCode::OK, "application/json", Bytes::new());
    *reply.body_mut() = stream_body(lines);
    Ok(reply)
}
