//! A set that only grows.

use std::time::Duration;

use xebec_chaos_core::history::{Action, Answer};

use super::Client;
use crate::etcd::number;

/// Nanoseconds after which everybody turns to a new set.
const EPOCH: u64 = 10_000_000_000;
/// Between reads of the whole set.
const READ_PAUSE: Duration = Duration::from_millis(250);
/// Between additions.
const ADD_PAUSE: Duration = Duration::from_millis(10);

/// The first client reads, the others add. The read of an old set goes on for a while after its end.
pub async fn run(mut client: Client) {
    let mut reads = 0_u64;
    while client.goes_on() {
        let epoch = client.recorder.now() / EPOCH;
        if client.index == 0 {
            reads += 1;
            // Every other read is of the set before: nothing may vanish from it later.
            let set = format!("s{}", epoch.saturating_sub(reads % 2));
            let (etcd, prefix) = (client.etcd(), client.key(&format!("{set}/")));
            let work = async move {
                let elements = etcd.list(&prefix).await?.iter().filter_map(number).collect();
                Ok(Answer { elements: Some(elements), ..Answer::default() })
            };
            client.perform(Action::ReadSet { set }, work).await;
            client.rest(READ_PAUSE).await;
        } else {
            let (set, element) = (format!("s{epoch}"), client.new_value());
            let (etcd, key) = (client.etcd(), client.key(&format!("{set}/{element}")));
            let work = async move {
                let revision = Some(etcd.put(&key, element, 0).await?);
                Ok(Answer { revision, ..Answer::default() })
            };
            client.perform(Action::Add { set, element }, work).await;
            client.rest(ADD_PAUSE).await;
        }
    }
}
