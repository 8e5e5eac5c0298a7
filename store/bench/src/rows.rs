//! The kinds of work.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use xebec_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, lease_client::LeaseClient,
};

use crate::{
    line::Line,
    load::{Client, Load, closed_loop},
    members::Members,
    session::{KEYS, LIST_KEYS, LISTS, Session},
    watchers,
};

/// Connections that clients share at most.
const CONNECTIONS_MAX: usize = 32;
/// Requests under way while keys are written before the measurement.
const FILL_CLIENTS: usize = 128;
/// TTL of the leases that are kept alive, in seconds.
const LEASE_TTL_SECONDS: i64 = 600;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// A put of 256 bytes to one of 100,000 keys.
    Put,
    /// Three compares, then a put.
    Txn,
    /// A read, then a transaction that depends on it.
    GetThenTxn,
    /// A linearizable read of one key.
    Get,
    /// A read of one key from whichever member is asked.
    SerializableGet,
    /// A list of 500 keys.
    List,
    /// Events delivered to 100 watchers of one prefix.
    Watch,
    /// A lease's keep-alive.
    KeepAlive,
    /// One put to nine linearizable reads.
    Mixed,
}

impl Row {
    /// All of them.
    pub const ALL: [Row; 9] = [
        Row::Put,
        Row::Txn,
        Row::GetThenTxn,
        Row::Get,
        Row::SerializableGet,
        Row::List,
        Row::Watch,
        Row::KeepAlive,
        Row::Mixed,
    ];

    /// How the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Row::Put => "put",
            Row::Txn => "txn, 3 compares",
            Row::GetThenTxn => "get, then txn",
            Row::Get => "get, linearizable",
            Row::SerializableGet => "get, serializable",
            Row::List => "list of 500",
            Row::Watch => "events to 100 watchers",
            Row::KeepAlive => "lease keep-alive",
            Row::Mixed => "mixed, 1 put : 9 gets",
        }
    }

    /// Does this work with so many clients.
    ///
    /// # Errors
    /// A request fails.
    pub async fn run(
        self,
        members: &Members,
        clients: usize,
        duration: Duration,
        begin: impl FnOnce() -> Result<()>,
    ) -> Result<Load> {
        let channels = connect(members, clients)?;
        let channel = |number: usize| channels[number % channels.len()].clone();
        let lines = lines(members, clients)?;
        let line = |number: usize| lines[number % lines.len()].clone();
        match self {
            Row::Watch => watchers::run(members, (0..clients).map(channel).collect(), duration, begin).await,
            Row::KeepAlive => {
                let mut holders = Vec::new();
                for number in 0..clients {
                    holders.push(LeaseHolder::new(channel(number)).await?);
                }
                closed_loop(holders, duration, begin).await
            }
            _ => {
                let workers =
                    (0..clients).map(|number| Worker { row: self, session: Session::new(line(number), number) });
                closed_loop(workers.collect(), duration, begin).await
            }
        }
    }
}

/// Connections to all members in turn, for streams.
fn connect(members: &Members, clients: usize) -> Result<Vec<Channel>> {
    (0..clients.min(CONNECTIONS_MAX)).map(|number| members.connect(number)).collect()
}

/// Connections to all members in turn, for single requests.
fn lines(members: &Members, clients: usize) -> Result<Vec<Line>> {
    (0..clients.min(CONNECTIONS_MAX)).map(|number| members.line(number)).collect()
}

/// Writes every key that is read later.
///
/// # Errors
/// A request fails.
pub async fn fill(members: &Members) -> Result<()> {
    let lines = lines(members, CONNECTIONS_MAX)?;
    let single = (0..KEYS).map(|key| format!("bench/{key:08}"));
    let listed =
        (0..LISTS).flat_map(|list| (0..LIST_KEYS).map(move |key| format!("list/{list:04}/namespace/object-{key:06}")));
    let mut results = stream::iter(single.chain(listed).enumerate())
        .map(|(number, key)| {
            let mut session = Session::new(lines[number % lines.len()].clone(), number);
            async move { session.put_at(key.into()).await }
        })
        .buffer_unordered(FILL_CLIENTS);
    while let Some(result) = results.next().await {
        result?;
    }
    Ok(())
}

struct Worker {
    row: Row,
    session: Session,
}

impl Client for Worker {
    async fn step(&mut self) -> Result<(), Status> {
        match self.row {
            Row::Put => self.session.put().await,
            Row::Txn => self.session.txn().await,
            Row::GetThenTxn => self.session.get_then_txn().await,
            Row::Get => self.session.get(false).await,
            Row::SerializableGet => self.session.get(true).await,
            Row::List => self.session.list().await,
            Row::Mixed if self.session.dice() == 0 => self.session.put().await,
            Row::Mixed => self.session.get(false).await,
            Row::Watch | Row::KeepAlive => Err(Status::internal("not a row of single requests")),
        }
    }
}

/// A client that keeps a lease of its own alive over one stream.
struct LeaseHolder {
    id: i64,
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    responses: Streaming<LeaseKeepAliveResponse>,
}

impl LeaseHolder {
    async fn new(channel: Channel) -> Result<Self> {
        let mut client = LeaseClient::new(channel);
        let id = client.lease_grant(LeaseGrantRequest { ttl: LEASE_TTL_SECONDS, id: 0 }).await?.into_inner().id;
        let (requests, stream) = mpsc::channel(1);
        requests.send(LeaseKeepAliveRequest { id }).await?;
        let mut responses = client.lease_keep_alive(ReceiverStream::new(stream)).await?.into_inner();
        responses.message().await?;
        Ok(Self { id, requests, responses })
    }
}

impl Client for LeaseHolder {
    async fn step(&mut self) -> Result<(), Status> {
        let gone = || Status::unavailable("the keep-alive stream ended");
        self.requests.send(LeaseKeepAliveRequest { id: self.id }).await.map_err(|_| gone())?;
        let response = self.responses.message().await?.ok_or_else(gone)?;
        if response.ttl > 0 { Ok(()) } else { Err(Status::not_found("the lease is gone")) }
    }
}
