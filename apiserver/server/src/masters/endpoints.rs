//! The `kubernetes` Service and the endpoints behind it: the masters that are alive.
//!
//! Each master holds a key under `masterleases/` on a lease of a few seconds (the same keys as upstream's lease
//! reconciler, kubernetes `pkg/controlplane/reconcilers/lease.go`); whoever renews its own also brings Endpoints and
//! EndpointSlice in line with the keys that are left, so that a dead master disappears.

use super::{ensure, reconcile};
use crate::app::App;
use crate::store::{Check, Outcome, StoreError, Txn, prefix_end};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use xebec_api::{GroupVersionKind, Status, codec, meta};

/// Time to live of a master's key, in seconds.
const LEASE_SECONDS: i64 = 10;
/// Interval of renewals.
const RENEW_INTERVAL: Duration = Duration::from_secs(3);
/// Renewals after which the objects are looked at even though the masters are the same.
const REPAIR_ROUNDS: u32 = 5;
/// Time a renewal may take.
const RENEW_TIMEOUT: Duration = Duration::from_secs(2);
/// Masters read at once.
const MASTERS_MAX: i64 = 100;
const LEASES: &str = "masterleases/";

/// Keeps this master among the endpoints until the server stops, and the endpoints in line with the masters.
pub async fn present(app: Arc<App>) {
    let mut lease = None;
    let mut published: Option<BTreeSet<IpAddr>> = None;
    let mut rounds = 0u32;
    let mut ticks = tokio::time::interval(RENEW_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        rounds += 1;
        if rounds.is_multiple_of(REPAIR_ROUNDS) {
            // Somebody may have deleted or changed them.
            published = None;
        }
        match step(&app, &mut lease, published.as_ref()).await {
            Ok(masters) => published = Some(masters),
            Err(status) => {
                published = None;
                tracing::warn!(code = status.code, message = status.message, "kubernetes endpoints");
            }
        }
    }
    if let Some(id) = lease
        && let Err(error) = app.objects.store.lease_revoke(id).await
    {
        tracing::debug!(%error, "master lease not revoked, it will expire");
    }
}

async fn step(
    app: &Arc<App>,
    lease: &mut Option<i64>,
    published: Option<&BTreeSet<IpAddr>>,
) -> Result<BTreeSet<IpAddr>, Status> {
    let renewed = match *lease {
        Some(id) => app.objects.store.lease_renew(id, RENEW_TIMEOUT).await?,
        None => false,
    };
    if !renewed {
        *lease = Some(enter(app).await?);
    }
    let masters = living(app).await?;
    if published != Some(&masters) {
        publish(app, &masters).await?;
        tracing::debug!(?masters, "kubernetes endpoints");
    }
    Ok(masters)
}

/// Writes this master's key on a new lease.
async fn enter(app: &App) -> Result<i64, StoreError> {
    let lease = app.objects.store.lease_grant(LEASE_SECONDS).await?;
    let address = app.settings.advertise_address.to_string();
    let key = app.objects.path(&format!("{LEASES}{address}"));
    let gvk = GroupVersionKind::new("", "v1", "Endpoints");
    let object = json!({"metadata": {}, "subsets": [{"addresses": [{"ip": address}]}]});
    let value = codec::encode_envelope(&gvk, &object).map_err(|error| StoreError::Refused(error.to_string()))?;
    let (found, _) = app.objects.store.get(&key).await?;
    let txn = Txn {
        checks: vec![Check::Unchanged { key: key.clone(), mod_revision: found.map_or(0, |kv| kv.mod_revision) }],
        puts: vec![(key, value.into())],
        lease: lease.id,
        ..Txn::default()
    };
    match app.objects.store.commit(&txn).await? {
        Outcome::Committed(_) => Ok(lease.id),
        Outcome::Failed(_) => Err(StoreError::Unavailable("another process uses this master's address".into())),
    }
}

async fn living(app: &App) -> Result<BTreeSet<IpAddr>, StoreError> {
    let prefix = app.objects.path(LEASES);
    let page = app.objects.store.list(prefix.as_bytes(), &prefix_end(prefix.as_bytes()), MASTERS_MAX, 0).await?;
    let address = |key: &[u8]| std::str::from_utf8(key).ok()?.strip_prefix(&prefix)?.parse::<IpAddr>().ok();
    Ok(page.kvs.iter().filter_map(|kv| address(&kv.key)).collect())
}

async fn publish(app: &Arc<App>, masters: &BTreeSet<IpAddr>) -> Result<(), Status> {
    ensure(app, "", "services", &service(app)?).await?;
    let port = app.settings.port;
    let addresses: Vec<Value> = masters.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
    let subsets = json!([{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]);
    let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    let endpoints =
        json!({"metadata": {"name": "kubernetes", "namespace": "default", "labels": labels}, "subsets": subsets});
    reconcile(app, "", "endpoints", &endpoints, |stored| {
        let mut new = stored.clone();
        new["subsets"] = subsets.clone();
        meta::set_label(&mut new, "endpointslice.kubernetes.io/skip-mirror", "true");
        Some(new)
    })
    .await?;
    let ready = |ip: &IpAddr| json!({"addresses": [ip.to_string()], "conditions": {"ready": true}});
    let slices: Vec<Value> = masters.iter().map(ready).collect();
    let family = if app.settings.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family, "endpoints": slices, "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    reconcile(app, "discovery.k8s.io", "endpointslices", &slice, |stored| {
        let mut new = stored.clone();
        new["endpoints"] = json!(slices);
        new["ports"] = slice["ports"].clone();
        Some(new)
    })
    .await
}

/// `default/kubernetes` has the first address of the range.
fn service(app: &App) -> Result<Value, Status> {
    let first = app.settings.service_range.hosts().next();
    let ip = first.ok_or_else(|| Status::internal_error("the range of ClusterIPs is empty"))?.to_string();
    Ok(json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": app.settings.port}]},
    }))
}
