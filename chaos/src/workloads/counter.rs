//! A counter that is raised by transactions.

use rand::RngExt as _;
use xebec_chaos_core::history::{Action, Answer};

use super::Client;
use crate::etcd::{Etcd, Failure, number, put_op, unchanged_since, unsigned};

/// Nanoseconds after which everybody turns to a new counter.
const EPOCH: u64 = 30_000_000_000;

/// Increments by reading and writing on condition, and reads.
pub async fn run(mut client: Client) {
    while client.goes_on() {
        let counter = format!("c{}", client.recorder.now() / EPOCH);
        let (etcd, key) = (client.etcd(), client.key(&counter));
        if client.rng.random_bool(0.6) {
            let by = client.rng.random_range(1..=5);
            client.perform(Action::Increment { counter, by }, async move { add(&etcd, &key, by).await }).await;
        } else {
            let work = async move {
                let (kv, revision) = etcd.get(&key).await?;
                let value = kv.as_ref().and_then(number);
                Ok(Answer { value, revision: Some(revision), ..Answer::default() })
            };
            client.perform(Action::ReadCounter { counter }, work).await;
        }
    }
}

async fn add(etcd: &Etcd, key: &str, by: i64) -> Result<Answer, Failure> {
    let (kv, _) = etcd.get(key).await.map_err(|failure| match failure {
        Failure::Refused(error) | Failure::Unknown(error) => Failure::Refused(error),
    })?;
    let (value, changed) = kv.as_ref().map_or((0, 0), |kv| (number(kv).unwrap_or(0), kv.mod_revision));
    let put = put_op(key, (value + by).to_string());
    let response = etcd.txn(vec![unchanged_since(key, changed)], vec![put], Vec::new()).await?;
    if !response.succeeded {
        return Err(Failure::Refused("the counter changed meanwhile".to_owned()));
    }
    Ok(Answer { revision: response.header.map(|header| unsigned(header.revision)), ..Answer::default() })
}
