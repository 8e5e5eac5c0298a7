//! NOSPACE: raised by this member for want of quota or of disk, and taken back by itself.

use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use xebec_store_core::{Alarm, AlarmKind, Command, ReadView};
use xebec_store_raft::{DiskSpace, Reserve, blocking};

use crate::context::Context;

/// How often the disk is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The keyspace is measured every so many looks while the alarm is raised.
const LOOKS_PER_MEASURE: u32 = 5;
/// While the alarm is raised, space is reclaimed again after so many looks (10 s): what RocksDB had no room to merge before
/// may fit by now, and where nothing is left to merge it costs nothing.
const LOOKS_PER_RECLAIM: u32 = 50;
/// One deletion may take so much of the space that is left, the reserve included: merging tables needs the rest.
const DELETION_SPARE_PART: u64 = 4;
/// Free bytes below which NOSPACE is raised on a large disk; on a smaller one its [`MARGIN_DISK_PART`]th. What was
/// proposed already, flushes and compactions must fit in here.
const MARGIN_BYTES_MAX: u64 = 128 << 20;
const MARGIN_DISK_PART: u64 = 8;
/// The alarm is taken back when live data is below this part of the quota, so that it does not come and go.
const QUOTA_CLEAR_PERCENT: u64 = 90;
/// The alarm is taken back when so much of the margin is free, reserve included.
const MARGIN_CLEAR_PERCENT: u64 = 150;

/// What to do about the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing.
    Rest,
    /// Give the reserve up: there is hardly any space for deletions and compaction.
    GiveUpReserve,
    /// Allocate the reserve.
    TakeReserve,
    /// Allocate the reserve for a start on a full disk: last, since it is worth less than taking writes again.
    TakeStartReserve,
    /// Raise NOSPACE.
    Raise,
    /// Take NOSPACE back.
    Clear,
}

/// What is known when deciding.
#[derive(Debug, Clone, Copy)]
struct Facts {
    disk: DiskSpace,
    /// Whether this member's alarm is raised, and whether by itself.
    is_raised: bool,
    is_own: bool,
    /// Live bytes, if they were measured, and the quota if there is one.
    live_bytes: Option<u64>,
    quota_bytes: Option<u64>,
}

fn decide(facts: &Facts) -> Step {
    let Facts { disk, is_raised, is_own, live_bytes, quota_bytes } = *facts;
    let margin = MARGIN_BYTES_MAX.min(disk.total_bytes / MARGIN_DISK_PART);
    let reserve = Reserve::size_bytes(disk.total_bytes);
    if disk.free_bytes < margin && !is_raised {
        return Step::Raise;
    }
    if disk.free_bytes < margin / 2 && disk.reserved_bytes > 0 {
        return Step::GiveUpReserve;
    }
    let plenty = margin / 100 * MARGIN_CLEAR_PERCENT;
    let lacking = reserve.saturating_sub(disk.reserved_bytes);
    if disk.free_bytes >= plenty + lacking {
        if lacking > 0 {
            return Step::TakeReserve;
        }
        let within_quota = match (quota_bytes, live_bytes) {
            (None, _) => true,
            (Some(quota), Some(live)) => live < quota / 100 * QUOTA_CLEAR_PERCENT,
            (Some(_), None) => false,
        };
        if is_raised && is_own && within_quota {
            return Step::Clear;
        }
        let lacking_to_start = reserve.saturating_sub(disk.start_reserved_bytes);
        if lacking_to_start > 0 && disk.free_bytes >= plenty + lacking_to_start {
            return Step::TakeStartReserve;
        }
    }
    Step::Rest
}

/// Watches disk and quota.
pub(super) async fn run(context: Context, data_dir: PathBuf) {
    let reserve = Reserve::of(&data_dir);
    let own = Alarm { member: context.member.id(), kind: AlarmKind::NoSpace };
    let quota_bytes = u64::try_from(context.limits.quota_bytes).ok().filter(|quota| *quota > 0);
    if context.member.keyspace().view().alarms().contains(&own) {
        // Raised before a restart.
        context.health.note_no_space();
    }
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0u32;
    let mut reclaimed = context.member.keyspace().view().compacted_revision();
    loop {
        looks.tick().await;
        count = count.wrapping_add(1);
        let is_raised = context.member.keyspace().view().alarms().contains(&own);
        let compacted = context.member.keyspace().view().compacted_revision();
        let is_due = compacted != reclaimed || count.is_multiple_of(LOOKS_PER_RECLAIM);
        if is_raised && is_due && context.member.keyspace().is_clean() {
            // Who deletes and compacts to get out of this should not have to wait for RocksDB's own time.
            context.member.shorten_log_soon();
            super::reclaim(&context);
            reclaimed = compacted;
        }
        let wants_size = is_raised && quota_bytes.is_some() && count.is_multiple_of(LOOKS_PER_MEASURE);
        let (measured, keyspace) = (reserve.clone(), context.member.keyspace().clone());
        let looked = blocking(move || {
            let live = wants_size.then(|| keyspace.sizes().ok().map(|sizes| sizes.live_bytes)).flatten();
            measured.measure().map(|disk| (disk, live))
        });
        let (disk, live_bytes) = match looked.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the disk cannot be measured");
                continue;
            }
            Err(_) => return,
        };
        let spare_bytes = (disk.free_bytes + disk.reserved_bytes) / DELETION_SPARE_PART;
        context.health.spare_bytes.store(spare_bytes, Ordering::Relaxed);
        let is_own = context.health.no_space_raised.load(Ordering::Relaxed);
        let facts = Facts { disk, is_raised, is_own, live_bytes, quota_bytes };
        act(&context, &reserve, own, decide(&facts), &disk).await;
    }
}

async fn act(context: &Context, reserve: &Reserve, own: Alarm, step: Step, disk: &DiskSpace) {
    let change = |command| async {
        match context.member.propose(command).await {
            Ok(Ok(_)) => true,
            Ok(Err(refusal)) => {
                tracing::warn!(%refusal, "the NOSPACE alarm cannot be changed");
                false
            }
            // Tried again at the next look.
            Err(error) => {
                tracing::debug!(%error, "the NOSPACE alarm cannot be changed yet");
                false
            }
        }
    };
    let reserve = reserve.clone();
    let done = match step {
        Step::Rest => return,
        Step::Raise => {
            context.health.note_no_space();
            if change(Command::AlarmActivate(own)).await {
                tracing::warn!(free_bytes = disk.free_bytes, "raised NOSPACE: the disk is nearly full");
            }
            return;
        }
        Step::Clear => {
            if change(Command::AlarmDeactivate(own)).await {
                context.health.no_space_raised.store(false, Ordering::Relaxed);
                tracing::info!(free_bytes = disk.free_bytes, "took NOSPACE back: there is space again");
            }
            return;
        }
        Step::GiveUpReserve => blocking(move || reserve.give_up()).await,
        Step::TakeReserve => blocking(move || reserve.take()).await,
        Step::TakeStartReserve => blocking(move || reserve.take_for_start()).await,
    };
    if let Ok(Err(error)) = done {
        tracing::warn!(%error, ?step, "the disk's reserve cannot be changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn facts(free_mib: u64, reserved_mib: u64) -> Facts {
        // Margin 32 MiB, reserves of 16 MiB each.
        let reserved = reserved_mib * MIB;
        let disk = DiskSpace {
            total_bytes: 256 * MIB,
            free_bytes: free_mib * MIB,
            reserved_bytes: reserved,
            start_reserved_bytes: 16 * MIB,
        };
        Facts { disk, is_raised: false, is_own: true, live_bytes: None, quota_bytes: None }
    }

    #[test]
    fn a_disk_that_fills_raises_first_and_then_gives_its_reserve_up() {
        assert_eq!(decide(&facts(200, 0)), Step::TakeReserve);
        assert_eq!(decide(&facts(200, 16)), Step::Rest);
        assert_eq!(decide(&facts(31, 16)), Step::Raise);
        let raised = |free, reserved| Facts { is_raised: true, ..facts(free, reserved) };
        assert_eq!(decide(&raised(31, 16)), Step::Rest);
        assert_eq!(decide(&raised(15, 16)), Step::GiveUpReserve);
        assert_eq!(decide(&raised(15, 0)), Step::Rest);
        assert_eq!(decide(&raised(63, 0)), Step::Rest, "not yet enough for the reserve too");
        assert_eq!(decide(&raised(65, 0)), Step::TakeReserve);
        assert_eq!(decide(&raised(49, 16)), Step::Clear);
        assert_eq!(decide(&Facts { is_own: false, ..raised(49, 16) }), Step::Rest, "an operator's alarm stays");
    }

    #[test]
    fn the_reserve_for_a_start_comes_last() {
        let without = |facts: Facts| Facts { disk: DiskSpace { start_reserved_bytes: 0, ..facts.disk }, ..facts };
        assert_eq!(decide(&without(facts(200, 0))), Step::TakeReserve);
        assert_eq!(decide(&without(Facts { is_raised: true, ..facts(65, 16) })), Step::Clear);
        assert_eq!(decide(&without(facts(65, 16))), Step::TakeStartReserve);
        assert_eq!(decide(&without(facts(63, 16))), Step::Rest, "writes need the room more");
    }

    #[test]
    fn an_alarm_for_want_of_quota_ends_well_below_it() {
        let at = |live| Facts { is_raised: true, live_bytes: Some(live), quota_bytes: Some(1000), ..facts(200, 16) };
        assert_eq!(decide(&at(999)), Step::Rest);
        assert_eq!(decide(&at(900)), Step::Rest);
        assert_eq!(decide(&at(899)), Step::Clear);
        assert_eq!(decide(&Facts { live_bytes: None, ..at(0) }), Step::Rest, "not measured");
    }
}
