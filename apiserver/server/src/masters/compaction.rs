//! Compaction of the store's history, every five minutes, by one of the masters (apiserver `storage/etcd3/compact.go`).

use crate::store::{Check, Outcome, Store, Txn};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Interval of compactions, and so the age of the oldest revision that stays readable.
const INTERVAL: Duration = Duration::from_secs(300);
/// Upstream's key: whoever advances it compacts, so that stock API servers take part in the rota.
const KEY: &str = "compact_rev_key";

/// Compacts for ever.
pub async fn compact(store: Arc<Store>) {
    let mut turn = 0;
    let mut revision = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        match step(&store, turn, revision).await {
            Ok((next_turn, next_revision)) => (turn, revision) = (next_turn, next_revision),
            Err(error) => tracing::warn!(%error, "compaction"),
        }
    }
}

/// One round; `turn` is the key's revision as last seen, `revision` what was current an interval ago.
async fn step(store: &Store, turn: i64, revision: i64) -> Result<(i64, i64), crate::store::StoreError> {
    let txn = Txn {
        checks: vec![Check::Unchanged { key: KEY.into(), mod_revision: turn }],
        puts: vec![(KEY.into(), Bytes::from(revision.to_string()))],
        ..Txn::default()
    };
    match store.commit(&txn).await? {
        Outcome::Committed(now) => {
            if revision > 0 {
                store.compact(revision).await?;
                tracing::debug!(revision, "compacted");
            }
            Ok((now, now))
        }
        // Another master has taken this turn.
        Outcome::Failed(current) => {
            let turn = current.first().and_then(Option::as_ref).map_or(0, |kv| kv.mod_revision);
            Ok((turn, store.current_revision().await?))
        }
    }
}
