//! Leadership and `coordination.k8s.io` Leases: the mirror that shows ordinary tools who leads, and the election used
//! against a stock kube-apiserver (client-go `tools/leaderelection`, same times).

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failure;
use crate::fence::Fence;
use crate::leadership::{Campaign, Ended, serve};

/// The namespace of the components' Leases.
const NAMESPACE: &str = "kube-system";
/// `leaseDurationSeconds`: how long others wait before they take over (client-go default).
const LEASE_DURATION_SECONDS: i32 = 15;
/// A leader that could not renew for this long gives up (client-go default).
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between attempts (client-go default).
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Pause between two renewals of the mirror; nothing depends on it, so it costs few writes.
const MIRROR_PERIOD: Duration = Duration::from_secs(5);

/// Keeps the Lease naming the elected identity, as long as it leads.
pub(crate) async fn mirror(campaign: &Campaign, fence: Fence) {
    let client = match campaign.connection.fenced(&fence) {
        Ok(client) => client,
        Err(error) => return tracing::warn!(%error, "the Lease is not mirrored"),
    };
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    while fence.stands() {
        if let Err(error) = hold(&leases, campaign, true).await {
            tracing::debug!(%error, lease = campaign.name, "mirroring the leader failed");
        }
        tokio::time::sleep(MIRROR_PERIOD).await;
    }
}

/// What an attempt to hold the Lease found.
enum Attempt {
    Held,
    /// Somebody else holds it; the record as seen.
    Other(String),
}

/// Writes this identity into the Lease if it may be: always with `force`, else if it is ours or vacant.
async fn hold(leases: &Api<Lease>, campaign: &Campaign, force: bool) -> Result<Attempt, kube::Error> {
    let now = MicroTime(jiff::Timestamp::now());
    let Some(mut lease) = leases.get_opt(&campaign.name).await? else {
        let metadata = ObjectMeta {
            name: Some(campaign.name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        };
        let spec = Some(record(LeaseSpec::default(), campaign, now));
        leases.create(&PostParams::default(), &Lease { metadata, spec }).await?;
        return Ok(Attempt::Held);
    };
    let spec = lease.spec.take().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if !force && !holder.is_empty() && holder != campaign.identity {
        return Ok(Attempt::Other(format!("{holder} {:?}", spec.renew_time)));
    }
    lease.spec = Some(record(spec, campaign, now));
    leases.replace(&campaign.name, &PostParams::default(), &lease).await?;
    Ok(Attempt::Held)
}

fn record(mut spec: LeaseSpec, campaign: &Campaign, now: MicroTime) -> LeaseSpec {
    if spec.holder_identity.as_deref() != Some(campaign.identity.as_str()) {
        spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        spec.acquire_time = Some(now.clone());
        spec.holder_identity = Some(campaign.identity.clone());
    }
    spec.lease_duration_seconds = Some(LEASE_DURATION_SECONDS);
    spec.renew_time = Some(now);
    spec
}

/// One campaign by Lease, and one term if it is won.
pub(crate) async fn term<W, Fut>(campaign: &Campaign, stop: &CancellationToken, work: &mut W) -> Ended
where
    W: FnMut(Fence, CancellationToken) -> Fut,
    Fut: Future<Output = ()>,
{
    let client = match campaign.connection.separate().client() {
        Ok(client) => client,
        Err(error) => return error.into(),
    };
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    tokio::select! {
        () = stop.cancelled() => return Ended::Finished,
        () = acquire(&leases, campaign) => {}
    }
    tracing::info!(leadership = campaign.name, identity = campaign.identity, "leading by Lease");
    let ended = serve(Fence::leading(None), stop, work, renew(&leases, campaign), std::future::pending()).await;
    release(&leases, campaign).await;
    ended
}

/// Returns once the Lease is ours. The record's age is measured on this clock from when it was first seen, so that
/// clocks need not agree (client-go `observedTime`).
async fn acquire(leases: &Api<Lease>, campaign: &Campaign) {
    let mut observed: Option<(String, Instant)> = None;
    let duration = Duration::from_secs(u64::from(LEASE_DURATION_SECONDS.unsigned_abs()));
    loop {
        let expired = observed.as_ref().is_some_and(|(_, since)| since.elapsed() > duration);
        match hold(leases, campaign, expired).await {
            Ok(Attempt::Held) => return,
            Ok(Attempt::Other(record)) => match &observed {
                Some((seen, _)) if *seen == record => {}
                _ => observed = Some((record, Instant::now())),
            },
            Err(error) if failure::is_conflict(&error) => observed = None,
            Err(error) => tracing::warn!(%error, lease = campaign.name, "campaigning by Lease failed"),
        }
        tokio::time::sleep(RETRY_PERIOD).await;
    }
}

/// Renews until the Lease is lost.
async fn renew(leases: &Api<Lease>, campaign: &Campaign) -> Ended {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(RETRY_PERIOD).await;
        match tokio::time::timeout_at(renewed + RENEW_DEADLINE, hold(leases, campaign, false)).await {
            Ok(Ok(Attempt::Held)) => renewed = Instant::now(),
            Ok(Ok(Attempt::Other(_))) => return Ended::Lost,
            Ok(Err(error)) => tracing::warn!(%error, lease = campaign.name, "renewing failed"),
            Err(_) => return Ended::Silent,
        }
    }
}

/// Vacates the Lease so that the next candidate need not wait (client-go `ReleaseOnCancel`).
async fn release(leases: &Api<Lease>, campaign: &Campaign) {
    let vacated = async {
        let mut lease = leases.get(&campaign.name).await?;
        let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(campaign.identity.as_str()) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        leases.replace(&campaign.name, &PostParams::default(), &lease).await.map(drop)
    };
    match tokio::time::timeout(RETRY_PERIOD, vacated).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, lease = campaign.name, "releasing failed"),
        Err(_) => tracing::debug!(lease = campaign.name, "releasing took too long"),
    }
}
