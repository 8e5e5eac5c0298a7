//! Entrances for `store/fuzz`: what decodes bytes from clients and operators, as the server uses it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use prost::Message;
use tokio_util::sync::CancellationToken;
use xebec_proto::etcdserverpb as pb;
use xebec_store_core::{Command, Range, Revision, validate};
use xebec_store_raft::Member;

use crate::{
    Error, Flags, MAX_TXN_OPS_DEFAULT,
    auth::{self, Authenticator, TokenChecker},
    context::Context,
    convert, flags,
    front::Front,
    initial,
    listen::Endpoint,
    operate::{self, NewMemberFlags, RestoreFlags},
    run::{client_router, limits},
};

/// A request of the KV service that passed every check.
#[derive(Debug)]
pub enum Checked {
    /// A read.
    Range(Range),
    /// What would be proposed.
    Command(Command),
}

/// The messages of the KV service, in the order that [`check_kv`] counts them.
pub const KV_MESSAGES: [&str; 5] =
    ["RangeRequest", "PutRequest", "DeleteRangeRequest", "TxnRequest", "CompactionRequest"];

/// Decodes a request of the KV service, validates it and turns it into what the store evaluates, as `kv.rs` does.
///
/// # Errors
/// What a client would be told.
pub fn check_kv(message: usize, bytes: &[u8]) -> Result<Checked, String> {
    let malformed = |error: prost::DecodeError| error.to_string();
    let refused = |refusal: xebec_store_core::RequestError| refusal.to_string();
    let status = |status: tonic::Status| status.message().to_owned();
    let command = match KV_MESSAGES.get(message).copied().unwrap_or_default() {
        "RangeRequest" => {
            let range = convert::range(pb::RangeRequest::decode(bytes).map_err(malformed)?).map_err(status)?;
            validate::range(&range).map_err(refused)?;
            return Ok(Checked::Range(range));
        }
        "PutRequest" => {
            let put = convert::put(pb::PutRequest::decode(bytes).map_err(malformed)?);
            validate::put(&put).map_err(refused)?;
            Command::Put(put)
        }
        "DeleteRangeRequest" => {
            let delete = convert::delete_range(pb::DeleteRangeRequest::decode(bytes).map_err(malformed)?);
            validate::delete_range(&delete).map_err(refused)?;
            Command::DeleteRange(delete)
        }
        "TxnRequest" => {
            let request = pb::TxnRequest::decode(bytes).map_err(malformed)?;
            convert::check_txn(&request, MAX_TXN_OPS_DEFAULT).map_err(refused)?;
            let txn = convert::txn(request).map_err(status)?;
            validate::txn_overlaps(&txn).map_err(refused)?;
            Command::Txn(txn)
        }
        _ => {
            let request = pb::CompactionRequest::decode(bytes).map_err(malformed)?;
            Command::Compact { revision: Revision(request.revision) }
        }
    };
    Ok(Checked::Command(command))
}

/// Everything that a client port serves, gRPC and plain HTTP, without a port.
///
/// # Errors
/// If the flags ask for tokens that cannot be made.
pub fn front(member: &Member, flags: &Flags) -> Result<Router, Error> {
    let authenticator = Arc::new(Authenticator::new(flags)?);
    let context = Context::new(member.clone(), limits(flags), authenticator);
    let services = client_router(&context);
    Ok(Front::new(context, flags.http.clone(), services).both(false))
}

/// Runs a member alone, in this directory, until it leads. No port is opened.
///
/// # Errors
/// If it cannot start.
pub async fn lone_member(flags: &Flags, data_dir: PathBuf) -> Result<Member, Error> {
    let flags = Flags { data_dir: Some(data_dir), ..flags.clone() };
    let dialer = Arc::new(|_: &[String]| Err("a member alone has no peers".to_owned()));
    let member = xebec_store_raft::start(initial::member_config(&flags, dialer)?).await?;
    let led = tokio::time::timeout(Duration::from_secs(30), member.leaders().wait_for(Option::is_some)).await.is_ok();
    if led { Ok(member) } else { Err(Error::Stopped("it does not lead".to_owned())) }
}

/// Flags as words, checked as at the start; each word is one argument.
///
/// # Errors
/// What an operator would be told.
pub fn read_flags(words: &[String]) -> Result<Flags, String> {
    let program = std::iter::once("store".to_owned());
    let flags = flags::from_words(program.chain(words.iter().cloned()).collect())?;
    look_at(&flags)?;
    Ok(flags)
}

/// A `--config-file`'s text, checked as at the start.
///
/// # Errors
/// What an operator would be told.
pub fn read_config(text: &str) -> Result<Flags, String> {
    let flags = flags::parse_config(text)?;
    look_at(&flags)?;
    Ok(flags)
}

fn look_at(flags: &Flags) -> Result<(), String> {
    flags::check(flags)?;
    let text = |error: Error| error.to_string();
    for url in flags.listen_client_urls.iter().chain(&flags.listen_peer_urls) {
        Endpoint::parse(url).map_err(text)?;
    }
    if let Some(cluster) = &flags.initial_cluster {
        initial::parse_cluster(cluster).map_err(text)?;
    }
    Ok(())
}

/// A checker of signed tokens whose secret is known, and a signer to go with it.
#[derive(Debug)]
pub struct SignedTokens(TokenChecker);

impl SignedTokens {
    /// By HMAC with SHA-256.
    #[must_use]
    pub fn new() -> Self {
        Self(TokenChecker::new(b"a secret of the fuzzer's"))
    }

    /// Whether a token is accepted.
    #[must_use]
    pub fn accepts(&self, token: &str) -> bool {
        self.0.accepts(token)
    }

    /// A token with this header and these claims, both JSON or not, and the right signature.
    #[must_use]
    pub fn sign(&self, header: &[u8], claims: &[u8]) -> String {
        self.0.sign(header, claims)
    }
}

impl Default for SignedTokens {
    fn default() -> Self {
        Self::new()
    }
}

/// `--auth-token`, and keys of tokens in PEM.
///
/// # Errors
/// What an operator would be told.
pub fn read_token_options(options: &str, pem: &[u8]) -> Result<(), String> {
    auth::read_token_options(options, pem)
}

/// Restores a snapshot into a directory, as `xebec store snapshot restore` does, without looking at its checksum.
///
/// # Errors
/// What an operator would be told.
pub fn restore(file: &Path, data_dir: PathBuf) -> Result<(), String> {
    let member = NewMemberFlags {
        data_dir: Some(data_dir),
        name: "default".to_owned(),
        initial_cluster: None,
        initial_advertise_peer_urls: vec!["http://localhost:2380".to_owned()],
        initial_cluster_token: "fuzzing".to_owned(),
    };
    let file = file.to_owned();
    let flags = RestoreFlags { file, member, bump_revision: 0, mark_compacted: false, skip_hash_check: true };
    operate::restore(&flags).map_err(|error| error.to_string())
}

/// Stops a member that [`lone_member`] started.
pub async fn stop(member: Member) {
    let stopped: CancellationToken = member.stopped().clone();
    member.stop().await;
    stopped.cancelled().await;
}
