//! Create, update and patch: decode, change, default, admit, default, validate, commit by compare-and-set.

use super::commit::{Commit, commit};
use super::{Call, admit};
use crate::objects::Stored;
use crate::services::Claims;
use crate::store::{Check, Txn};
use serde_json::Value;
use xebec_api::{Status, meta};
use xebec_apiserver_core::registry::{Row, check_update_preconditions, deletion};
use xebec_apiserver_core::request::WriteOptions;
use xebec_planted::{PlantedBug, is_planted};

/// Tries at a generated name.
const NAME_ATTEMPTS_MAX: u64 = 8;
/// Tries at numbers that other API servers are after, too.
const NUMBER_ATTEMPTS_MAX: u64 = 64;
/// Tries of a write that is bound to no resourceVersion, while others write the same object.
const CONFLICT_ATTEMPTS_MAX: usize = 16;

/// The outcome of a write.
#[derive(Debug)]
pub struct Written {
    /// The object as stored, with its resourceVersion.
    pub object: Value,
    /// Whether it is new.
    pub created: bool,
}

/// How an update makes the new object from the stored one; called again when somebody else wrote meanwhile.
pub trait Change: Send {
    /// The new object. It may carry a resourceVersion, which then has to be the stored one.
    fn apply(&mut self, stored: &Value) -> Result<Value, Status>;

    /// The object to create where there is none; `None`: that is a 404.
    fn absent(&mut self) -> Result<Option<Value>, Status> {
        Ok(None)
    }

    /// Whether the change may be made again after a conflict although it carries no condition (patches are).
    fn repeats(&self) -> bool;
}

/// Stores a new object.
pub async fn create_object(call: &Call, object: Value, options: &WriteOptions) -> Result<Written, Status> {
    let served = &call.served;
    let row = &served.row;
    let generated = meta::name(&object).is_empty();
    if generated && meta::generate_name(&object).is_empty() {
        return Err(nameless(row));
    }
    let (mut names, mut numbers) = (0, 0);
    while names < NAME_ATTEMPTS_MAX && numbers < NUMBER_ATTEMPTS_MAX {
        let mut new = object.clone();
        prepare(call, &mut new, None).await?;
        row.before_create(&mut new, &call.info.namespace, &call.ctx, names)?;
        admit::validate(call, &new, None).await?;
        let claims = Claims::for_create(call, &mut new).await?;
        if options.dry_run {
            refuse_existing(call, &new).await?;
            return Ok(Written { object: new, created: true });
        }
        let key = call.app.objects.key(served, meta::namespace(&new), meta::name(&new));
        let mut txn = Txn {
            checks: vec![Check::Unchanged { key: key.clone(), mod_revision: 0 }],
            puts: vec![(key, served.encode(&new)?)],
            ..Txn::default()
        };
        claims.join(&mut txn)?;
        match commit(&call.app, txn, call.fence.as_ref()).await? {
            Commit::Done(revision) => {
                meta::set_resource_version(&mut new, revision.unsigned_abs());
                return Ok(Written { object: new, created: true });
            }
            Commit::Refused(0) if !generated => return Err(Status::already_exists(&row.resource, meta::name(&new))),
            Commit::Refused(0) => names += 1,
            // Other numbers: the next attempt draws them.
            Commit::Refused(index) => {
                claims.refused(call, meta::name(&new), index)?;
                numbers += 1;
            }
        }
    }
    if generated && names == NAME_ATTEMPTS_MAX {
        return Err(Status::generate_name_conflict(&row.resource, meta::generate_name(&object), 1));
    }
    Err(Status::server_timeout(&row.resource, "create", 1))
}

/// Stores a new version of an object, or deletes it if the change removed the last thing that kept it.
pub async fn update_object(
    call: &Call,
    name: &str,
    options: &WriteOptions,
    change: &mut dyn Change,
) -> Result<Written, Status> {
    let row = &call.served.row;
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let Some(stored) = call.app.objects.get(&call.served, &call.info.namespace, name).await? else {
            return match change.absent()? {
                Some(object) => create_object(call, object, options).await,
                None => Err(Status::not_found(&row.resource, name)),
            };
        };
        let new = change.apply(&stored.object)?;
        let conditional = !meta::resource_version(&new).is_empty() && !change.repeats();
        check_update_preconditions(row, &new, &stored.object)?;
        match try_update(call, &stored, new, options).await? {
            Some(written) => return Ok(written),
            None if conditional => return Err(Status::modified(&row.resource, name)),
            None => {}
        }
    }
    Err(Status::modified(&row.resource, name))
}

/// One attempt; `None`: somebody else wrote first.
async fn try_update(
    call: &Call,
    stored: &Stored,
    mut new: Value,
    options: &WriteOptions,
) -> Result<Option<Written>, Status> {
    let row = &call.served.row;
    let old = &stored.object;
    prepare(call, &mut new, Some(old)).await?;
    if of_pod_part(call) {
        check_pod_part(call, &mut new, old)?;
    } else {
        row.before_update(&mut new, old, &call.info.subresource)?;
    }
    admit::validate(call, &new, Some(old)).await?;
    let removes = deletion::completes_deletion(row, &new);
    let claims =
        if removes { Claims::of_deleted(call, old).await? } else { Claims::for_update(call, &mut new, old).await? };
    meta::metadata_mut(&mut new).insert("resourceVersion".into(), Value::from(meta::resource_version(old)));
    // Two forms of the same object (an empty field there or absent) are one and the same at rest.
    let encoded = call.served.encode(&new)?;
    if Row::is_unchanged(&new, old) || options.dry_run || encoded == call.served.encode(old)? {
        return Ok(Some(Written { object: new, created: false }));
    }
    let key = stored.key.clone();
    let mut txn =
        Txn { checks: vec![Check::Unchanged { key: key.clone(), mod_revision: stored.revision }], ..Txn::default() };
    if is_planted(PlantedBug::ForgetBindingPrecondition) && call.info.subresource == "binding" {
        txn.checks.clear();
    }
    if removes {
        txn.deletes.push(key);
    } else {
        txn.puts.push((key, encoded));
    }
    claims.join(&mut txn)?;
    match commit(&call.app, txn, call.fence.as_ref()).await? {
        Commit::Done(revision) => {
            meta::set_resource_version(&mut new, revision.unsigned_abs());
            Ok(Some(Written { object: new, created: false }))
        }
        Commit::Refused(index) => {
            claims.refused(call, meta::name(&new), index)?;
            Ok(None)
        }
    }
}

/// Subresources that write what an update of the pod itself may not.
fn of_pod_part(call: &Call) -> bool {
    call.info.resource == "pods"
        && matches!(call.info.subresource.as_str(), "binding" | "ephemeralcontainers" | "resize")
}

/// The rest of the pod is the stored one already; what is written has to be valid, and counts as a new generation.
fn check_pod_part(call: &Call, new: &mut Value, old: &Value) -> Result<(), Status> {
    let row = &call.served.row;
    row.default(new);
    if call.info.subresource != "binding" && new.get("spec") != old.get("spec") {
        meta::set_generation(new, meta::generation(old).max(1) + 1);
    }
    row.invalid_unless_empty(new, &(row.strategy.validate)(new))
}

/// Defaults, mutating admission, defaults again.
async fn prepare(call: &Call, new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if call.info.subresource.is_empty() {
        call.served.row.default(new);
    }
    admit::mutate(call, new, old).await?;
    Ok(())
}

async fn refuse_existing(call: &Call, new: &Value) -> Result<(), Status> {
    match call.app.objects.get(&call.served, meta::namespace(new), meta::name(new)).await? {
        Some(_) => Err(Status::already_exists(&call.served.row.resource, meta::name(new))),
        None => Ok(()),
    }
}

fn nameless(row: &Row) -> Status {
    let path = xebec_api::field::Path::new("metadata.name");
    let error = xebec_api::field::Error::required(&path, "name or generateName is required");
    let kind = xebec_api::GroupKind::new(&*row.gvk.group, &*row.gvk.kind);
    Status::invalid(&kind, "", &[error])
}
