//! Registers.

use std::collections::HashMap;

use rand::RngExt as _;
use xebec_chaos_core::history::{Action, Answer};
use xebec_proto::etcdserverpb::response_op::Response;

use super::Client;
use crate::etcd::{created_at, get_op, has_value, number, put_op, unsigned};

/// Registers in use at the same time.
const KEYS: u32 = 5;
/// Nanoseconds after which everybody turns to new registers, so that no history of a key grows without end.
const EPOCH: u64 = 60_000_000_000;

/// Reads (half), writes (a third), compare-and-sets and some deletions, on a handful of keys that everybody shares.
pub async fn run(mut client: Client) {
    let mut seen: HashMap<String, Option<i64>> = HashMap::new();
    while client.goes_on() {
        let epoch = client.recorder.now() / EPOCH;
        let key = format!("r{epoch}-{}", client.rng.random_range(0..KEYS));
        let full = client.key(&key);
        let etcd = client.etcd();
        match client.rng.random_range(0..100) {
            0..50 => {
                let work = async move {
                    let (kv, revision) = etcd.get(&full).await?;
                    Ok(Answer { value: kv.as_ref().and_then(number), revision: Some(revision), ..Answer::default() })
                };
                if let Some(answer) = client.perform(Action::Read { key: key.clone() }, work).await {
                    seen.insert(key, answer.value);
                }
            }
            50..82 => {
                let value = client.new_value();
                let work =
                    async move { Ok(Answer { revision: Some(etcd.put(&full, value, 0).await?), ..Answer::default() }) };
                if client.perform(Action::Write { key: key.clone(), value }, work).await.is_some() {
                    seen.insert(key, Some(value));
                }
            }
            82..98 => {
                let (from, to) = (seen.get(&key).copied().flatten(), client.new_value());
                let work = async move {
                    let compare = from.map_or_else(|| created_at(&full, 0), |from| has_value(&full, from));
                    let put = put_op(&full, to.to_string());
                    let response = etcd.txn(vec![compare], vec![put], vec![get_op(&full)]).await?;
                    let revision = response.header.map(|header| unsigned(header.revision));
                    if response.succeeded {
                        return Ok(Answer { swapped: Some(true), revision, ..Answer::default() });
                    }
                    let found = response.responses.into_iter().find_map(|response| match response.response? {
                        Response::ResponseRange(range) => Some(range.kvs.first().and_then(number)),
                        _ => None,
                    });
                    let value = found.flatten();
                    let present = found.map(|found| found.is_some());
                    Ok(Answer { swapped: Some(false), value, present, revision, ..Answer::default() })
                };
                if let Some(answer) = client.perform(Action::Cas { key: key.clone(), from, to }, work).await {
                    seen.insert(key, if answer.swapped == Some(true) { Some(to) } else { answer.value });
                }
            }
            _ => {
                let work = async move { Ok(Answer { revision: Some(etcd.delete(&full).await?), ..Answer::default() }) };
                if client.perform(Action::Delete { key: key.clone() }, work).await.is_some() {
                    seen.insert(key, None);
                }
            }
        }
    }
}
