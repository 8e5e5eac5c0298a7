//! Optimistic concurrency: which version and which incarnation a write is meant for.

use serde_json::Value;
use xebec_api::{GroupKind, Status, field, meta};

use super::row::Row;

/// Checks a PUT's or PATCH's own `metadata.resourceVersion` and `metadata.uid` against the stored object (apiserver
/// `registry/generic/registry/store.go`, `Update`).
///
/// # Errors
/// 409 when the object is newer or another one, 422 when the kind wants a resourceVersion and there is none.
pub fn check_update_preconditions(row: &Row, new: &Value, old: &Value) -> Result<(), Status> {
    let uid = meta::uid(new);
    if !uid.is_empty() && uid != meta::uid(old) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(old));
        return Err(Status::conflict(&row.resource, meta::name(old), &why));
    }
    let version = meta::resource_version(new);
    if version.is_empty() {
        if row.strategy.unconditional_update {
            return Ok(());
        }
        let path = field::Path::new("metadata.resourceVersion");
        let error = field::Error::invalid(&path, 0, "must be specified for an update");
        return Err(Status::invalid(&GroupKind::new(&*row.gvk.group, &*row.gvk.kind), meta::name(old), &[error]));
    }
    if version != meta::resource_version(old) {
        return Err(Status::modified(&row.resource, meta::name(old)));
    }
    Ok(())
}

/// Checks a delete's preconditions (apimachinery `storage.Preconditions.Check`).
///
/// # Errors
/// 409 when they do not hold.
pub fn check_resource_version(
    row: &Row,
    object: &Value,
    uid: Option<&str>,
    version: Option<&str>,
) -> Result<(), Status> {
    if let Some(uid) = uid.filter(|uid| *uid != meta::uid(object)) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(object));
        return Err(Status::conflict(&row.resource, meta::name(object), &why));
    }
    if let Some(version) = version.filter(|version| *version != meta::resource_version(object)) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            meta::resource_version(object)
        );
        return Err(Status::conflict(&row.resource, meta::name(object), &why));
    }
    Ok(())
}
