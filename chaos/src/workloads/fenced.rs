//! Locks and elections, with etcd's recipe (etcd `client/v3/concurrency`): a key under a lease, and whoever's was created
//! first holds it. The creation revision is the fencing token.

use std::time::Duration;

use rand::RngExt as _;
use xebec_chaos_core::history::{Action, Answer};
use xebec_proto::etcdserverpb::{
    RangeRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

use super::Client;
use crate::etcd::{Etcd, Failure, bytes, created_at, prefix_end, put_op, signed, unsigned};

/// Seconds of a candidate's lease. It is not renewed: a holder that works longer is deposed, and must be refused.
const TTL_SECONDS: i64 = 3;
/// How often a waiting candidate looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// A candidate that waits longer gives up.
const WAIT_MAX: Duration = Duration::from_secs(12);
/// Between a holder's writes.
const WRITE_PAUSE: Duration = Duration::from_millis(30);

/// The names of one discipline's actions.
struct Names {
    key: &'static str,
    take: fn() -> Action,
    write: fn(u64, i64) -> Action,
    give: fn(u64) -> Action,
}

const LOCK: Names = Names {
    key: "lock/",
    take: || Action::Acquire { lock: "lock".into() },
    write: |token, value| Action::Guarded { lock: "lock".into(), token, value },
    give: |token| Action::Release { lock: "lock".into(), token },
};

const ELECTION: Names = Names {
    key: "election/",
    take: || Action::Campaign { election: "election".into() },
    write: |token, value| Action::Proclaim { election: "election".into(), token, value },
    give: |token| Action::Resign { election: "election".into(), token },
};

/// Holders of a lock that write under it, some until after their lease has run out.
pub async fn lock(client: Client) {
    hold(client, &LOCK).await;
}

/// The same as leaders.
pub async fn election(client: Client) {
    hold(client, &ELECTION).await;
}

async fn hold(mut client: Client, names: &Names) {
    while client.goes_on() {
        let lease = i64::from(client.rng.random_range(1..u32::MAX)) << 20 | i64::from(client.index);
        let prefix = client.key(names.key);
        let key = format!("{prefix}{lease:x}");
        let (etcd, stop, own) = (client.etcd(), client.stop.clone(), key.clone());
        let work = async move { take(&etcd, &prefix, &own, lease, || stop.is_cancelled()).await };
        let taken = client.perform_within(WAIT_MAX, (names.take)(), work).await;
        let Some(token) = taken.and_then(|answer| answer.token) else { continue };
        // Most give up in time; some stay beyond their lease, and must be refused.
        let stay = Duration::from_millis(client.rng.random_range(100..5_000));
        let until = tokio::time::Instant::now() + stay;
        let mut held = true;
        while held && client.goes_on() && tokio::time::Instant::now() < until {
            let (etcd, own, value) = (client.etcd(), key.clone(), client.new_value());
            let target = client.key(&format!("{}value", names.key.replace('/', "-")));
            let work = async move { if_held(&etcd, &own, token, put_op(&target, value.to_string())).await };
            held = client.perform((names.write)(token, value), work).await.is_some();
            client.rest(WRITE_PAUSE).await;
        }
        let (etcd, own) = (client.etcd(), key.clone());
        let deletion = xebec_proto::etcdserverpb::DeleteRangeRequest { key: bytes(&own), ..Default::default() };
        let work = async move { if_held(&etcd, &own, token, Request::RequestDeleteRange(deletion)).await };
        client.perform((names.give)(token), work).await;
    }
}

async fn take(etcd: &Etcd, prefix: &str, key: &str, lease: i64, stopped: impl Fn() -> bool) -> Result<Answer, Failure> {
    etcd.grant(lease, TTL_SECONDS).await?;
    etcd.put(key, lease, lease).await?;
    loop {
        let first = RangeRequest {
            key: bytes(prefix),
            range_end: prefix_end(prefix),
            limit: 1,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..RangeRequest::default()
        };
        let first = etcd.range(first).await?.kvs.into_iter().next();
        let Some(first) = first else { return Err(Failure::Refused("the lease ran out while waiting".to_owned())) };
        if first.key == key.as_bytes() {
            return Ok(Answer { token: Some(unsigned(first.create_revision)), ..Answer::default() });
        }
        // Another candidate's turn: this one's lease must outlive the wait.
        if stopped() || etcd.keep_alive(lease).await? == 0 {
            return Err(Failure::Refused("the candidacy ended".to_owned()));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn if_held(etcd: &Etcd, key: &str, token: u64, request: Request) -> Result<Answer, Failure> {
    let response = etcd.txn(vec![created_at(key, signed(token))], vec![request], Vec::new()).await?;
    if !response.succeeded {
        return Err(Failure::Refused("deposed".to_owned()));
    }
    Ok(Answer { revision: response.header.map(|header| unsigned(header.revision)), ..Answer::default() })
}
