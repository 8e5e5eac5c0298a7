//! One candidate's campaign, as long as its connection lasts.

use super::Fence;
use crate::store::{Check, LeaseHold, Outcome, Store, StoreError, StoreWatch, Txn, WatchItem, prefix_end};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Time to live of a candidate's lease, in seconds.
const LEASE_SECONDS: i64 = 2;
/// Interval of renewals and of `alive` lines; clients tolerate three missing ones.
const RENEW_INTERVAL: Duration = Duration::from_millis(400);
/// Time a renewal may take.
const RENEW_TIMEOUT: Duration = Duration::from_millis(700);
/// Candidates of one election read at once.
const CANDIDATES_MAX: i64 = 1000;

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Line {
    /// The campaign has begun.
    Campaigning,
    /// Elected.
    Leading {
        /// Token for `X-Xebec-Fence`.
        fence: String,
    },
    /// Nothing changed.
    Alive,
    /// Not leading any more; the stream ends.
    Lost,
}

enum Renewal {
    Alive,
    Gone,
    Unknown,
}

/// Campaigns for `name` until leadership is lost or the receiver of `lines` is gone; then the lease is revoked, so that
/// the next candidate is elected at once.
pub async fn campaign(
    store: Arc<Store>,
    name: String,
    identity: String,
    lines: mpsc::Sender<Line>,
    stop: CancellationToken,
) {
    if lines.send(Line::Campaigning).await.is_err() {
        return;
    }
    // The lease runs from before it was asked for: our clock must not be behind the store's.
    let asked = Instant::now();
    let lease = tokio::select! {
        () = lines.closed() => return,
        lease = store.lease_grant(LEASE_SECONDS) => lease,
    };
    let lease = match lease {
        Ok(lease) => lease,
        Err(error) => {
            tracing::warn!(election = name, identity, %error, "leadership: no lease");
            finish(&lines);
            return;
        }
    };
    let mut candidate = Candidate { store: &store, name: &name, lease, renewed: asked, fence: None };
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = candidate.run(&identity, &lines) => ended,
    };
    match ended {
        Ok(()) => tracing::debug!(election = name, identity, "leadership: candidate left"),
        Err(error) => tracing::warn!(election = name, identity, %error, "leadership: lost"),
    }
    // Lost first: the client must stop its work before another can be elected.
    finish(&lines);
    if let Err(error) = store.lease_revoke(lease.id).await {
        tracing::debug!(election = name, %error, "leadership: lease not revoked, it will expire");
    }
}

fn finish(lines: &mpsc::Sender<Line>) {
    // A client that does not read has lost by its own clock, and must not keep the lease alive.
    if lines.try_send(Line::Lost).is_err() {
        tracing::trace!("leadership: the client has gone");
    }
}

struct Candidate<'a> {
    store: &'a Store,
    name: &'a str,
    lease: LeaseHold,
    renewed: Instant,
    fence: Option<Fence>,
}

impl Candidate<'_> {
    async fn run(&mut self, identity: &str, lines: &mpsc::Sender<Line>) -> Result<(), StoreError> {
        let key = Fence::candidate_key(self.name, self.lease.id);
        let enter = Txn {
            checks: vec![Check::Unchanged { key: key.clone(), mod_revision: 0 }],
            puts: vec![(key.clone(), Bytes::copy_from_slice(identity.as_bytes()))],
            lease: self.lease.id,
            ..Txn::default()
        };
        let create_revision = match self.store.commit(&enter).await? {
            Outcome::Committed(revision) => revision,
            Outcome::Failed(_) => return Err(StoreError::Refused("the candidate's key exists".into())),
        };
        let fence = Fence { key, create_revision };
        let mut watch = self.store.watch(&Fence::prefix(self.name), create_revision + 1).await.ok();
        let mut ticks = tokio::time::interval(RENEW_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = lines.closed() => return Ok(()),
                _ = ticks.tick() => {
                    if !self.tick(lines).await? {
                        return Ok(());
                    }
                    if watch.is_none() {
                        watch = self.store.watch(&Fence::prefix(self.name), create_revision + 1).await.ok();
                    }
                    if self.fence.is_some() {
                        // Leading ends with the key, which the lease guards and the watch reports.
                        continue;
                    }
                }
                changed = next(&mut watch) => {
                    if !changed {
                        watch = None;
                        continue;
                    }
                }
            }
            if !self.look(&fence, lines).await? {
                return Ok(());
            }
        }
    }

    /// Renews the lease and says that the connection lives; `false`: the client has gone.
    async fn tick(&mut self, lines: &mpsc::Sender<Line>) -> Result<bool, StoreError> {
        let asked = Instant::now();
        match renew(self.store, self.lease.id).await {
            Renewal::Alive => self.renewed = asked,
            Renewal::Gone => return Err(StoreError::Refused("the lease expired".into())),
            Renewal::Unknown if self.renewed.elapsed() >= Duration::from_secs(LEASE_SECONDS as u64) => {
                return Err(StoreError::Unavailable("the lease could not be renewed in time".into()));
            }
            Renewal::Unknown => {}
        }
        Ok(lines.try_send(Line::Alive).is_ok())
    }

    /// Looks who leads; `false`: the client has gone.
    async fn look(&mut self, ours: &Fence, lines: &mpsc::Sender<Line>) -> Result<bool, StoreError> {
        let prefix = Fence::prefix(self.name);
        let end = prefix_end(prefix.as_bytes());
        let listed = self.store.list(prefix.as_bytes(), &end, CANDIDATES_MAX, 0);
        let Ok(Ok(page)) = tokio::time::timeout(RENEW_TIMEOUT, listed).await else { return Ok(true) };
        let Some(leader) = page.kvs.iter().min_by_key(|kv| kv.create_revision) else {
            return Err(StoreError::Refused("the candidate's key is gone".into()));
        };
        if !page.kvs.iter().any(|kv| kv.create_revision == ours.create_revision) {
            return Err(StoreError::Refused("the candidate's key is gone".into()));
        }
        if leader.create_revision != ours.create_revision || self.fence.is_some() {
            return Ok(true);
        }
        self.fence = Some(ours.clone());
        tracing::info!(election = self.name, fence = ours.token(), "leadership: elected");
        Ok(lines.send(Line::Leading { fence: ours.token() }).await.is_ok())
    }
}

async fn renew(store: &Store, lease: i64) -> Renewal {
    match store.lease_renew(lease, RENEW_TIMEOUT).await {
        Ok(true) => Renewal::Alive,
        Ok(false) => Renewal::Gone,
        Err(_) => Renewal::Unknown,
    }
}

/// Waits for a change among the candidates; `false`: the watch has ended.
async fn next(watch: &mut Option<StoreWatch>) -> bool {
    match watch {
        None => std::future::pending().await,
        Some(watch) => match watch.next().await {
            Ok(WatchItem::Events(_) | WatchItem::Progress(_)) => true,
            Ok(WatchItem::Compacted) | Err(_) => false,
        },
    }
}
