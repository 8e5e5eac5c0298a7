//! Leadership: work that runs on one master at a time, is cancelled at once when leadership is lost, and whose writes
//! are fenced (the contract is in ARCHITECTURE.md, "Leadership").

use futures::{AsyncBufReadExt, StreamExt};
use http::{Method, Request};
use serde::Deserialize;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connect::{ConnectError, Connection};
use crate::failure;
use crate::fence::Fence;
use crate::lease;

/// A leader that has heard nothing for this long counts as deposed. The server speaks every 500 ms and its lease lasts 2 s.
pub const SILENCE_MAX: Duration = Duration::from_millis(1_500);
/// A candidate that has heard nothing for this long connects anew.
const CANDIDATE_SILENCE_MAX: Duration = Duration::from_millis(3_000);
/// Pause between two campaigns, so that a server that refuses is not flooded.
const CAMPAIGN_PAUSE: Duration = Duration::from_millis(200);
/// How long cancelled work may take to end by itself before it is dropped. Its writes are refused from the start.
const WORK_END_MAX: Duration = Duration::from_millis(1_000);

/// Who campaigns for what.
#[derive(Clone)]
pub struct Campaign {
    /// The connection to the API server; the campaign takes connections of its own from it.
    pub connection: Connection,
    /// The leadership's name, which is also the name of the mirroring Lease in `kube-system`: `kube-scheduler`,
    /// `kube-controller-manager`.
    pub name: String,
    /// Unique per process: `<host>_<uuid>` by custom.
    pub identity: String,
}

/// One line of the server's stream.
#[derive(Debug, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Line {
    Campaigning,
    Leading {
        fence: String,
    },
    Alive,
    Lost,
    #[serde(other)]
    Unknown,
}

/// Why a campaign ended without, or after, leading.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The server has no elections: a stock kube-apiserver.
    #[error("the server offers no elections")]
    Unsupported,
    /// The request failed.
    #[error("campaign failed: {0}")]
    Request(#[source] kube::Error),
    /// The stream broke.
    #[error("campaign interrupted: {0}")]
    Stream(#[source] std::io::Error),
    /// The server closed the stream or said that the leadership is lost.
    #[error("leadership lost")]
    Lost,
    /// Nothing was heard for too long.
    #[error("the server fell silent")]
    Silent,
    /// The work ended by itself.
    #[error("the work ended")]
    Finished,
    /// No client could be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Campaigns until `stop`, and runs `work` whenever and as long as this process leads.
///
/// `work` gets the fence of this one leadership, for [`Connection::fenced`], and a token that is cancelled when the
/// leadership is lost (or `stop` is cancelled); when it has not ended within a second of that, it is dropped. If it ends
/// by itself the leadership is given up and campaigned for again.
pub async fn run_while_leading<W, Fut>(campaign: Campaign, stop: CancellationToken, mut work: W)
where
    W: FnMut(Fence, CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    while !stop.is_cancelled() {
        let ended = tokio::select! {
            biased;
            ended = term(&campaign, &stop, &mut work) => ended,
            // The term ends by itself after `stop`, once its work has; this bounds it.
            () = after_stop(&stop) => return,
        };
        match ended {
            Ended::Finished if stop.is_cancelled() => return,
            ended => tracing::info!(leadership = campaign.name, reason = %ended, "not leading"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CAMPAIGN_PAUSE) => {}
        }
    }
}

async fn after_stop(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(WORK_END_MAX * 2).await;
}

/// One campaign, and one term if it is won.
async fn term<W, Fut>(campaign: &Campaign, stop: &CancellationToken, work: &mut W) -> Ended
where
    W: FnMut(Fence, CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    match elected_by_stream(campaign, stop, work).await {
        Ended::Unsupported => {
            tracing::info!(leadership = campaign.name, "no elections on this server, using a Lease");
            lease::term(campaign, stop, work).await
        }
        ended => ended,
    }
}

async fn elected_by_stream<W, Fut>(campaign: &Campaign, stop: &CancellationToken, work: &mut W) -> Ended
where
    W: FnMut(Fence, CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    let opened = tokio::select! {
        () = stop.cancelled() => return Ended::Finished,
        opened = open(campaign) => opened,
    };
    let mut lines = match opened {
        Ok(lines) => lines,
        Err(ended) => return ended,
    };
    let token = loop {
        let line = tokio::select! {
            () = stop.cancelled() => return Ended::Finished,
            line = next_line(&mut lines, CANDIDATE_SILENCE_MAX) => line,
        };
        match line {
            Ok(Line::Leading { fence }) => break fence,
            Ok(Line::Lost) => return Ended::Lost,
            Ok(Line::Campaigning | Line::Alive | Line::Unknown) => {}
            Err(ended) => return ended,
        }
    };
    tracing::info!(leadership = campaign.name, identity = campaign.identity, "leading");
    let fence = Fence::leading(Some(&token));
    let watch = async {
        loop {
            match next_line(&mut lines, SILENCE_MAX).await {
                Ok(Line::Lost) => return Ended::Lost,
                Ok(_) => {}
                Err(ended) => return ended,
            }
        }
    };
    let mirror = lease::mirror(campaign, fence.clone());
    serve(fence, stop, work, watch, mirror).await
}

/// Runs the work until `lost` resolves, `stop` is cancelled or it ends; then makes sure it has ended.
pub(crate) async fn serve<W, Fut>(
    fence: Fence,
    stop: &CancellationToken,
    work: &mut W,
    lost: impl Future<Output = Ended>,
    mirror: impl Future<Output = ()>,
) -> Ended
where
    W: FnMut(Fence, CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    let cancel = stop.child_token();
    // Whatever happens, also if this future is dropped, the fence falls and the token is cancelled.
    let _guard = Term { fence: fence.clone(), cancel: cancel.clone() };
    let mut working = std::pin::pin!(work(fence.clone(), cancel.clone()));
    let mut mirror = std::pin::pin!(mirror);
    let mut lost = std::pin::pin!(lost);
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut lost => break ended,
            () = stop.cancelled() => break Ended::Finished,
            () = &mut working => return Ended::Finished,
            () = &mut mirror => {}
        }
    };
    if !stop.is_cancelled() {
        fence.lose();
    }
    cancel.cancel();
    if tokio::time::timeout(WORK_END_MAX, working).await.is_err() {
        tracing::warn!("work did not end when cancelled, dropped it");
    }
    ended
}

struct Term {
    fence: Fence,
    cancel: CancellationToken,
}

impl Drop for Term {
    fn drop(&mut self) {
        self.fence.lose();
        self.cancel.cancel();
    }
}

/// The lines, and when the last one was read.
type Lines = (futures::stream::BoxStream<'static, std::io::Result<String>>, Instant);

async fn open(campaign: &Campaign) -> Result<Lines, Ended> {
    let client = campaign.connection.separate().client()?;
    let path = format!("/xebec.io/v1/leaderships/{}?identity={}", campaign.name, encode(&campaign.identity));
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .body(Vec::new())
        .map_err(|error| Ended::Request(kube::Error::HttpError(error)))?;
    let reader = match client.request_stream(request).await {
        Ok(reader) => reader,
        Err(error) if failure::is_not_found(&error) => return Err(Ended::Unsupported),
        Err(error) => return Err(Ended::Request(error)),
    };
    Ok((reader.lines().boxed(), Instant::now()))
}

async fn next_line((lines, heard): &mut Lines, silence_max: Duration) -> Result<Line, Ended> {
    let line = tokio::time::timeout_at(*heard + silence_max, lines.next()).await;
    let now = Instant::now();
    // After this process was paused, lines from before may still be buffered: they prove nothing about now.
    if now.duration_since(*heard) > silence_max {
        return Err(Ended::Silent);
    }
    *heard = now;
    match line {
        Err(_) => Err(Ended::Silent),
        Ok(None) => Err(Ended::Lost),
        Ok(Some(Err(error))) => Err(Ended::Stream(error)),
        Ok(Some(Ok(text))) => Ok(serde_json::from_str(&text).unwrap_or(Line::Unknown)),
    }
}

/// Percent-encodes everything but unreserved characters (RFC 3986, 2.3).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
