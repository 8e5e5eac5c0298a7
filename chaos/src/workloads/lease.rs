//! Keys that live as long as their lease.

use std::time::Duration;

use rand::RngExt as _;
use xebec_chaos_core::history::{Action, Answer};

use super::Client;
use crate::etcd::unsigned;

/// Seconds of a lease.
const TTL_SECONDS: i64 = 3;
/// Between looks at a key.
const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// Looks at a key after its lease was given up, until it is gone.
const LOOKS_MAX: u32 = 80;

/// Grants a lease, attaches a key, renews it some times while looking, then revokes it or lets it run out.
pub async fn run(mut client: Client) {
    while client.goes_on() {
        let lease = i64::from(client.rng.random_range(1..u32::MAX)) << 20 | 0xf_0000 | i64::from(client.index);
        let (etcd, ttl_ms) = (client.etcd(), unsigned(TTL_SECONDS) * 1_000);
        let work = async move {
            let granted = etcd.grant(lease, TTL_SECONDS).await?;
            Ok(Answer { ttl_ms: Some(unsigned(granted) * 1_000), ..Answer::default() })
        };
        if client.perform(Action::Grant { lease, ttl_ms }, work).await.is_none() {
            continue;
        }
        let key = format!("lease/{lease:x}");
        let (etcd, full) = (client.etcd(), client.key(&key));
        let work =
            async move { Ok(Answer { revision: Some(etcd.put(&full, lease, lease).await?), ..Answer::default() }) };
        client.perform(Action::Attach { key: key.clone(), lease }, work).await;
        for _ in 0..client.rng.random_range(0..6) {
            look(&mut client, &key).await;
            renew(&mut client, lease).await;
            client.rest(LOOK_PAUSE * 2).await;
        }
        if client.rng.random_bool(0.3) {
            let etcd = client.etcd();
            let work = async move { etcd.revoke(lease).await.map(|()| Answer::default()) };
            client.perform(Action::Revoke { lease }, work).await;
        }
        for _ in 0..LOOKS_MAX {
            if !client.goes_on() || look(&mut client, &key).await == Some(false) {
                break;
            }
            client.rest(LOOK_PAUSE).await;
        }
    }
}

async fn look(client: &mut Client, key: &str) -> Option<bool> {
    let (etcd, full) = (client.etcd(), client.key(key));
    let work = async move {
        let (kv, revision) = etcd.get(&full).await?;
        Ok(Answer { present: Some(kv.is_some()), revision: Some(revision), ..Answer::default() })
    };
    client.perform(Action::Look { key: key.to_owned() }, work).await.and_then(|answer| answer.present)
}

async fn renew(client: &mut Client, lease: i64) {
    let etcd = client.etcd();
    let work = async move {
        let ttl_ms = Some(unsigned(etcd.keep_alive(lease).await?) * 1_000);
        Ok(Answer { ttl_ms, ..Answer::default() })
    };
    client.perform(Action::KeepAlive { lease }, work).await;
}
