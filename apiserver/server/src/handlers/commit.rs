//! The last step of every write: one transaction of the store, with the leader's fence if the client carries one.

use crate::app::App;
use crate::leadership::Fence;
use crate::store::{Outcome, Txn};
use xebec_api::Status;
use xebec_planted::{PlantedBug, is_planted};

/// What the store said.
pub enum Commit {
    /// Committed at this revision.
    Done(i64),
    /// A check of the transaction failed; its number.
    Refused(usize),
}

/// Commits `txn`, if the leadership behind `fence` still stands.
///
/// # Errors
/// 409 `LeadershipLost`; otherwise what the store's failure means.
pub async fn commit(app: &App, mut txn: Txn, fence: Option<&Fence>) -> Result<Commit, Status> {
    let fence = fence.filter(|_| !is_planted(PlantedBug::IgnoreFencingToken));
    txn.checks.extend(fence.map(Fence::check));
    let current = match app.objects.store.commit(&txn).await? {
        Outcome::Committed(revision) => return Ok(Commit::Done(revision)),
        Outcome::Failed(current) => current,
    };
    let failed = |index: usize| {
        txn.checks.get(index).is_some_and(|check| !check.holds(current.get(index).and_then(Option::as_ref)))
    };
    if fence.is_some() && failed(txn.checks.len() - 1) {
        return Err(leadership_lost());
    }
    // All checks may hold by now, if one failed only for a moment: that is the first one's conflict.
    Ok(Commit::Refused((0..txn.checks.len()).find(|index| failed(*index)).unwrap_or(0)))
}

/// 409: the writer does not lead any more.
pub fn leadership_lost() -> Status {
    Status::failure(409, "LeadershipLost", "the leadership that this request was made under does not stand any more")
}
