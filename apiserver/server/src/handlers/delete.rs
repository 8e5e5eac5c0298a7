//! Delete and deletecollection.

use super::Call;
use super::admit;
use super::commit::{Commit, commit};
use crate::objects::Stored;
use crate::services::Claims;
use crate::store::{Check, Txn};
use serde_json::Value;
use xebec_api::{Status, meta};
use xebec_apiserver_core::registry::deletion::{self, Deletion};
use xebec_apiserver_core::request::DeleteOptions;

/// Tries of a delete without a resourceVersion, while others write the same object.
const CONFLICT_ATTEMPTS_MAX: usize = 16;

/// The outcome of a delete.
pub enum Deleted {
    /// It is gone; as it was.
    Gone(Value),
    /// It is marked and goes later; as it is.
    Marked(Value),
}

/// Deletes one object.
pub async fn delete_object(call: &Call, name: &str, options: &DeleteOptions) -> Result<Deleted, Status> {
    let row = &call.served.row;
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let stored = call.app.objects.get(&call.served, &call.info.namespace, name).await?;
        let Some(stored) = stored else { return Err(Status::not_found(&row.resource, name)) };
        admit::validate_delete(call, &stored.object).await?;
        if let Some(deleted) = try_delete(call, stored, options).await? {
            return Ok(deleted);
        }
        if options.resource_version.is_some() {
            return Err(Status::modified(&row.resource, name));
        }
    }
    Err(Status::modified(&row.resource, name))
}

/// One attempt; `None`: somebody else wrote first.
async fn try_delete(call: &Call, stored: Stored, options: &DeleteOptions) -> Result<Option<Deleted>, Status> {
    let decision = deletion::decide(&call.served.row, &stored.object, options, &call.ctx)?;
    let check = Check::Unchanged { key: stored.key.clone(), mod_revision: stored.revision };
    let mut txn = Txn { checks: vec![check], ..Txn::default() };
    // Held until the transaction is committed: writes that change the claimed node ports take turns.
    let claims = match decision {
        Deletion::DeleteNow => Claims::of_deleted(call, &stored.object).await?,
        _ => Claims::default(),
    };
    let (mut object, gone) = match decision {
        Deletion::Pending => return Ok(Some(Deleted::Marked(stored.object))),
        Deletion::DeleteNow => {
            txn.deletes.push(stored.key.clone());
            claims.join(&mut txn)?;
            (stored.object, true)
        }
        Deletion::MarkAndUpdate(marked) => {
            txn.puts.push((stored.key.clone(), call.served.encode(&marked)?));
            (marked, false)
        }
    };
    if !options.dry_run {
        match commit(&call.app, txn, call.fence.as_ref()).await? {
            Commit::Done(revision) => meta::set_resource_version(&mut object, revision.unsigned_abs()),
            Commit::Refused(_) => return Ok(None),
        }
    }
    Ok(Some(if gone { Deleted::Gone(object) } else { Deleted::Marked(object) }))
}
