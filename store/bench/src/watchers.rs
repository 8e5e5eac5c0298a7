//! A hundred watchers of one prefix, and clients that write below it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};
use xebec_proto::etcdserverpb::{
    PutRequest, WatchCreateRequest, WatchRequest, WatchResponse, kv_client::KvClient, watch_client::WatchClient,
    watch_request::RequestUnion,
};

use crate::{
    load::{Load, Phase, histogram},
    members::Members,
    session::VALUE_BYTES,
};

/// Watchers of the prefix.
const WATCHERS: usize = 100;
/// Connections that the watchers share.
const WATCH_CONNECTIONS: usize = 6;
/// Keys below the prefix.
const HOT_KEYS: u64 = 1_000;
/// Time for what was written to arrive everywhere after the writers have ended.
const DRAIN: Duration = Duration::from_secs(20);

/// Counts events delivered; the latency is from before the put was sent until a watcher has its event.
///
/// # Errors
/// A request fails, or an event does not arrive.
pub async fn run(
    members: &Members,
    writers: Vec<Channel>,
    duration: Duration,
    begin: impl FnOnce() -> Result<()>,
) -> Result<Load> {
    let phase = Phase::default();
    let epoch = Instant::now();
    let mut watchers = Vec::new();
    let channels = (0..WATCH_CONNECTIONS).map(|number| members.connect(number)).collect::<Result<Vec<_>>>()?;
    let (last, done) = tokio::sync::watch::channel(None);
    for number in 0..WATCHERS {
        let stream = subscribe(channels[number % channels.len()].clone()).await?;
        watchers.push(tokio::spawn(follow(stream, phase.clone(), epoch, done.clone())));
    }
    let tasks: Vec<_> = writers
        .into_iter()
        .enumerate()
        .map(|(number, channel)| tokio::spawn(write(KvClient::new(channel), phase.clone(), epoch, number as u64)))
        .collect();
    let seconds = phase.run(duration, begin).await?;
    let mut revision = 0;
    for written in try_join_all(tasks).await? {
        revision = revision.max(written?);
    }
    last.send_replace(Some(revision));
    let mut latency = histogram()?;
    for one in try_join_all(watchers).await? {
        latency.add(one?)?;
    }
    Ok(Load { operations: latency.len(), seconds, latency })
}

async fn subscribe(channel: Channel) -> Result<Streaming<WatchResponse>> {
    let create = WatchCreateRequest { key: "hot/".into(), range_end: "hot0".into(), ..Default::default() };
    let (requests, stream) = mpsc::channel(1);
    requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await?;
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    // The requests' side stays open as long as the responses are read.
    let open = futures::StreamExt::chain(ReceiverStream::new(stream), futures::stream::pending());
    let mut responses = client.watch(open).await?.into_inner();
    let created = responses.message().await?.context("the watch ended")?;
    drop(requests);
    if created.created { Ok(responses) } else { bail!("the watch was not created") }
}

/// Reads until the last written revision has arrived.
async fn follow(
    mut responses: Streaming<WatchResponse>,
    phase: Phase,
    epoch: Instant,
    mut last: tokio::sync::watch::Receiver<Option<i64>>,
) -> Result<hdrhistogram::Histogram<u64>> {
    let mut latency = histogram()?;
    let mut seen = 0;
    loop {
        let end = *last.borrow();
        if end.is_some_and(|end| seen >= end) {
            return Ok(latency);
        }
        let response = tokio::select! {
            response = responses.message() => response?.context("the watch ended")?,
            changed = last.changed(), if end.is_none() => {
                changed?;
                continue;
            }
            () = tokio::time::sleep(DRAIN) => bail!("events up to {end:?} did not arrive, the last was {seen}"),
        };
        let now = epoch.elapsed().as_micros() as u64;
        for event in response.events {
            let kv = event.kv.context("an event without a key")?;
            seen = kv.mod_revision;
            if phase.is_measuring() {
                let sent = kv.value.first_chunk::<8>().map_or(0, |micros| u64::from_le_bytes(*micros));
                latency.saturating_record(now.saturating_sub(sent));
            }
        }
    }
}

/// Writes until the phase is over and returns the last revision.
async fn write(mut kv: KvClient<Channel>, phase: Phase, epoch: Instant, number: u64) -> Result<i64> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut revision = 0;
    while !phase.is_over() {
        let mut value = vec![7; VALUE_BYTES];
        value[..8].copy_from_slice(&(epoch.elapsed().as_micros() as u64).to_le_bytes());
        let key = Bytes::from(format!("hot/{:06}", random.u64(0..HOT_KEYS)));
        let request = PutRequest { key, value: value.into(), ..Default::default() };
        revision = kv.put(request).await?.into_inner().header.context("no header")?.revision;
    }
    Ok(revision)
}
