//! The claimed node ports of the cluster, in upstream's place and form (kubernetes
//! `pkg/registry/core/service/allocator/storage/storage.go`): a stock API server on the same store sees them, and we see
//! what it claims.

use crate::app::App;
use crate::store::{Check, Txn};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use xebec_api::{GroupVersionKind, Status, codec};
use xebec_apiserver_core::service::PortBitmap;

/// Key of the RangeAllocation, behind the store's prefix.
const KEY: &str = "ranges/servicenodeports";

/// The claims as one write found them and will leave them.
pub(super) struct PortMap {
    /// What is claimed once the write is committed.
    pub(super) claimed: PortBitmap,
    key: String,
    revision: i64,
    stored: Option<Value>,
    /// All claims lie under one key: writes of one process take turns, and only other processes can be in the way.
    _turn: OwnedMutexGuard<()>,
}

impl PortMap {
    /// Reads the claims; where there are none yet, or of another range, Services say what they hold.
    pub(super) async fn read(app: &App) -> Result<Self, Status> {
        let turn = app.node_ports_turn().await;
        let (key, range) = (app.objects.path(KEY), &app.settings.node_ports);
        let (found, _) = app.objects.store.get(&key).await?;
        let revision = found.as_ref().map_or(0, |kv| kv.mod_revision);
        let unreadable = |error: codec::Error| Status::internal_error(&format!("{key}: {error}"));
        let stored = found.map(|kv| codec::decode_any(&kv.value)).transpose().map_err(unreadable)?;
        let claimed = match stored.as_ref().and_then(|object| PortBitmap::from_range_allocation(range, object)) {
            Some(claimed) => claimed,
            None => PortBitmap::of_services(range, &app.objects.all_stored("", "services").await?),
        };
        Ok(Self { claimed, key, revision, stored, _turn: turn })
    }

    /// Adds the claims to a transaction, if nobody else changed them meanwhile.
    pub(super) fn join(&self, txn: &mut Txn) -> Result<(), Status> {
        let gvk = GroupVersionKind::new("", "v1", "RangeAllocation");
        let object = self.claimed.to_range_allocation(self.stored.as_ref());
        let encoded = codec::encode_envelope(&gvk, &object)
            .map_err(|error| Status::internal_error(&format!("{}: {error}", self.key)))?;
        txn.checks.push(Check::Unchanged { key: self.key.clone(), mod_revision: self.revision });
        txn.puts.push((self.key.clone(), encoded.into()));
        Ok(())
    }
}
