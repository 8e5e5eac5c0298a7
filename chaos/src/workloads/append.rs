//! Lists under transactions.

use std::collections::BTreeMap;

use rand::RngExt as _;
use xebec_chaos_core::history::{Action, Answer, MicroOperation};
use xebec_proto::{
    etcdserverpb::{request_op::Request, response_op::Response},
    mvccpb::KeyValue,
};

use super::Client;
use crate::etcd::{Etcd, Failure, get_op, put_op, unchanged_since};

/// Lists in use at the same time.
const KEYS: u32 = 4;
/// Nanoseconds after which everybody turns to new lists.
const EPOCH: u64 = 10_000_000_000;
/// Steps of a transaction.
const STEPS: std::ops::RangeInclusive<u32> = 1..=4;

/// Transactions of a few appends and reads, half of their lists shared with every other client's.
pub async fn run(mut client: Client) {
    while client.goes_on() {
        let epoch = client.recorder.now() / EPOCH;
        let count = client.rng.random_range(STEPS);
        let mut ops = Vec::new();
        for _ in 0..count {
            let key = format!("l{epoch}-{}", client.rng.random_range(0..KEYS));
            ops.push(match client.rng.random_bool(0.5) {
                true => MicroOperation::Append { key, value: client.new_value() },
                false => MicroOperation::Read { key },
            });
        }
        let (etcd, prefix, steps) = (client.etcd(), client.prefix.clone(), ops.clone());
        client.perform(Action::Txn { ops }, async move { transact(&etcd, &prefix, &steps).await }).await;
    }
}

/// A list as it was read: its elements, and the revision of its last change.
#[derive(Default, Clone)]
struct List {
    elements: Vec<i64>,
    changed: i64,
    appended: bool,
}

/// Reads all lists at one revision, then writes what changes on condition that none has changed since.
async fn transact(etcd: &Etcd, prefix: &str, ops: &[MicroOperation]) -> Result<Answer, Failure> {
    let names: std::collections::BTreeSet<String> = ops.iter().map(|op| format!("{prefix}{}", op.key())).collect();
    let gets: Vec<Request> = names.iter().map(|name| get_op(name)).collect();
    let response = etcd.txn(Vec::new(), gets, Vec::new()).await.map_err(nothing_written)?;
    let read = response.responses.into_iter().map(|response| match response.response {
        Some(Response::ResponseRange(range)) => range.kvs.first().map_or_else(List::default, list),
        _ => List::default(),
    });
    let mut lists: BTreeMap<String, List> = names.iter().cloned().zip(read).collect();
    let mut reads = Vec::new();
    for op in ops {
        let list = lists.entry(format!("{prefix}{}", op.key())).or_default();
        reads.push(match op {
            MicroOperation::Append { value, .. } => {
                list.elements.push(*value);
                list.appended = true;
                None
            }
            MicroOperation::Read { .. } => Some(list.elements.clone()),
        });
    }
    let puts: Vec<Request> =
        lists.iter().filter(|(_, list)| list.appended).map(|(name, list)| put_op(name, text(list))).collect();
    if !puts.is_empty() {
        let compares = lists.iter().map(|(name, list)| unchanged_since(name, list.changed)).collect();
        if !etcd.txn(compares, puts, Vec::new()).await?.succeeded {
            return Err(Failure::Refused("a list changed meanwhile".to_owned()));
        }
    }
    Ok(Answer { reads: Some(reads), ..Answer::default() })
}

/// The first, reading step of a transaction leaves nothing behind, whatever becomes of it.
fn nothing_written(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(error) | Failure::Unknown(error) => Failure::Refused(error),
    }
}

fn list(kv: &KeyValue) -> List {
    let text = String::from_utf8_lossy(&kv.value);
    let elements = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    List { elements, changed: kv.mod_revision, appended: false }
}

fn text(list: &List) -> String {
    list.elements.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")
}
