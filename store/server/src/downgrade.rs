//! `Downgrade`: one minor version exactly (etcd `server/etcdserver/version/`). What a downgrade changes here is what is
//! told: the cluster's version and the storage's; the stored data has no newer fields to take away.

use tonic::Status;
use xebec_proto::etcdserverpb::{DowngradeRequest, DowngradeResponse, downgrade_request::DowngradeAction};
use xebec_store_core::{Command, ReadView, Revision};
use xebec_store_disk::View;
use xebec_store_snapshot::DowngradeRecord;

use crate::{context::Context, status::IntoStatus, version::CLUSTER_VERSION};

/// The cluster record that says whether a downgrade is under way.
const RECORD_NAME: &str = "downgrade";

/// Whether a downgrade is under way, and to which version.
pub(crate) fn info(view: &View) -> Result<DowngradeRecord, Status> {
    let record = view.cluster_record(RECORD_NAME).map_err(IntoStatus::into_status)?;
    Ok(record.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default())
}

/// The version that members agree on: the target while a downgrade is under way.
pub(crate) fn cluster_version(view: &View) -> Result<String, Status> {
    let DowngradeRecord { target_version, enabled } = info(view)?;
    Ok(if enabled { target_version } else { CLUSTER_VERSION.to_owned() })
}

/// Major and minor of a version like `3.5` or `3.5.0` (etcd `convertToClusterVersion`).
fn minor(text: &str) -> Option<(u64, u64)> {
    let parts: Vec<u64> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    match parts[..] {
        [major, minor] | [major, minor, _] => Some((major, minor)),
        _ => None,
    }
}

/// Whether a cluster may go from one version to another.
fn validate(current: &str, target: &str, under_way: bool) -> Result<(u64, u64), Status> {
    let target =
        minor(target).ok_or_else(|| Status::invalid_argument("etcdserver: wrong downgrade target version format"))?;
    let (major, current_minor) = minor(current).unwrap_or_default();
    if current_minor.checked_sub(1).map(|below| (major, below)) != Some(target) {
        return Err(Status::invalid_argument("etcdserver: invalid downgrade target version"));
    }
    if under_way {
        return Err(Status::failed_precondition("etcdserver: cluster has a downgrade job in progress"));
    }
    Ok(target)
}

/// Serves the RPC; `propose` carries the caller's name.
pub(crate) async fn downgrade<F: Future<Output = Result<(), Status>>>(
    context: &Context,
    request: DowngradeRequest,
    propose: impl FnOnce(Command) -> F,
) -> Result<DowngradeResponse, Status> {
    let view = context.view(false).await?;
    let DowngradeRecord { enabled, .. } = info(&view)?;
    let current = cluster_version(&view)?;
    let set = |record: &DowngradeRecord| {
        let value = serde_json::to_vec(record).expect("a name and a flag are always JSON");
        Command::SetClusterRecord { name: RECORD_NAME.to_owned(), value: Some(value.into()) }
    };
    match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => {
            validate(&current, &request.version, enabled)?;
        }
        Ok(DowngradeAction::Enable) => {
            let (major, minor) = validate(&current, &request.version, enabled)?;
            propose(set(&DowngradeRecord { target_version: format!("{major}.{minor}.0"), enabled: true })).await?;
        }
        // etcd takes a cancellation of nothing without complaint.
        Ok(DowngradeAction::Cancel) if enabled => propose(set(&DowngradeRecord::default())).await?,
        Ok(DowngradeAction::Cancel) => {}
        Err(_) => return Err(Status::invalid_argument("etcdserver: unknown method")),
    }
    let now = cluster_version(&context.member.keyspace().view())?;
    let version = minor(&now).map(|(major, minor)| format!("{major}.{minor}")).unwrap_or_default();
    Ok(DowngradeResponse { header: Some(context.header(Revision(0))), version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_minor_version_below_is_a_target() {
        assert_eq!(validate("3.6.0", "3.5.0", false).unwrap(), (3, 5));
        assert_eq!(validate("3.6.0", "3.5", false).unwrap(), (3, 5));
        let refusal = |target, under_way| validate("3.6.0", target, under_way).unwrap_err().message().to_owned();
        for target in ["3.4.0", "3.6.0", "3.7.0", "2.5.0"] {
            assert_eq!(refusal(target, false), "etcdserver: invalid downgrade target version");
        }
        for target in ["", "3", "x.y", "3.5.0.1", "v3.5"] {
            assert_eq!(refusal(target, false), "etcdserver: wrong downgrade target version format");
        }
        assert_eq!(refusal("3.5.0", true), "etcdserver: cluster has a downgrade job in progress");
    }
}
