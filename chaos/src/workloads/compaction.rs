//! Compacts behind everybody.

use std::time::Duration;

use xebec_chaos_core::history::{Action, Answer};

use super::Client;

/// Between compactions.
const PAUSE: Duration = Duration::from_secs(5);
/// Revisions that are kept.
const KEPT: u64 = 500;

/// Compacts the history to [`KEPT`] revisions, again and again.
pub async fn run(mut client: Client) {
    while client.goes_on() {
        client.rest(PAUSE).await;
        let etcd = client.etcd();
        let current = tokio::time::timeout(super::REQUEST_TIMEOUT, etcd.get("\0")).await;
        let Ok(Ok((_, current))) = current else {
            client.move_on();
            continue;
        };
        let revision = current.saturating_sub(KEPT);
        if revision > 1 {
            let work = async move { etcd.compact(revision).await.map(|()| Answer::default()) };
            client.perform(Action::Compact { revision }, work).await;
        }
    }
}
