//! `--auto-compaction-mode` and `--auto-compaction-retention` (etcd `server/etcdserver/api/v3compactor/`).

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep};
use xebec_store_core::{
    Command, ReadView, RequestError, Revision,
    auth::{Caller, ROOT},
};

use crate::context::Context;

/// Periodic compaction happens at least so often.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Revisions are noted so many times an interval.
const NOTES_PER_INTERVAL: u32 = 10;
/// How often a number of revisions is looked at (etcd `revInterval`).
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compaction {
    /// All revisions that are not older.
    Periodic(Duration),
    /// That many revisions.
    Revisions(i64),
}

/// When periodic compaction compacts, and where.
#[derive(Debug)]
struct Window {
    period: Duration,
    revisions: VecDeque<Revision>,
    last_revision: Revision,
    /// Time since the last compaction, or since the start, and how long it must become.
    waited: Duration,
    due: Duration,
}

impl Window {
    fn new(period: Duration) -> Self {
        Self { period, revisions: VecDeque::new(), last_revision: Revision(0), waited: Duration::ZERO, due: period }
    }

    fn note_interval(&self) -> Duration {
        self.period.min(INTERVAL_MAX) / NOTES_PER_INTERVAL
    }

    /// Notes the revision; the oldest note is one period old.
    fn note(&mut self, revision: Revision) {
        let notes_max = (self.period.as_nanos() / self.note_interval().as_nanos().max(1)) as usize + 1;
        self.revisions.push_back(revision);
        if self.revisions.len() > notes_max {
            self.revisions.pop_front();
        }
    }

    /// After `waited`: where to compact, if it is time, and this member leads.
    fn due(&mut self, waited: Duration, leads: bool) -> Option<Revision> {
        self.waited += waited;
        let revision = *self.revisions.front()?;
        if !leads || self.waited < self.due || revision == self.last_revision {
            return None;
        }
        self.due = self.period.min(INTERVAL_MAX);
        Some(revision)
    }

    fn compacted(&mut self, revision: Revision) {
        self.last_revision = revision;
        self.waited = Duration::ZERO;
    }
}

/// Compacts while this member leads.
pub(super) async fn run(context: Context, compaction: Option<Compaction>) {
    match compaction {
        None => {}
        Some(Compaction::Periodic(period)) => periodic(&context, period).await,
        Some(Compaction::Revisions(kept)) => by_revisions(&context, kept).await,
    }
}

async fn periodic(context: &Context, period: Duration) {
    let mut window = Window::new(period);
    loop {
        window.note(context.member.keyspace().view().current_revision());
        let began = Instant::now();
        sleep(window.note_interval()).await;
        if let Some(revision) = window.due(began.elapsed(), context.member.leads())
            && compact(context, revision).await
        {
            window.compacted(revision);
        }
    }
}

async fn by_revisions(context: &Context, kept: i64) {
    let mut last = Revision(0);
    loop {
        sleep(REVISION_INTERVAL).await;
        let revision = Revision(context.member.keyspace().view().current_revision().0.saturating_sub(kept));
        if context.member.leads() && revision.0 > 0 && revision != last && compact(context, revision).await {
            last = revision;
        }
    }
}

/// Whether the revision is compacted now.
async fn compact(context: &Context, revision: Revision) -> bool {
    match context.member.propose(Command::Compact { revision }.by(caller(context))).await {
        Ok(Ok(_) | Err(RequestError::Compacted)) => {
            tracing::info!(revision = revision.0, "compacted by itself");
            true
        }
        Ok(Err(refusal)) => {
            tracing::warn!(revision = revision.0, %refusal, "compaction was refused");
            false
        }
        Err(error) => {
            tracing::warn!(revision = revision.0, %error, "compaction has to wait");
            false
        }
    }
}

/// In whose name: root's while authentication is on, since a compaction without a caller could be any client's. Root
/// is always there then, and always an administrator.
fn caller(context: &Context) -> Caller {
    let view = context.member.keyspace().view();
    match view.auth() {
        auth if auth.is_enabled() => Caller { user: ROOT.to_owned(), auth_revision: auth.revision() },
        _ => Caller::anonymous(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_period_of_ten_minutes_compacts_every_ten_minutes_what_is_ten_minutes_old() {
        let mut window = Window::new(10 * MINUTE);
        assert_eq!(window.note_interval(), MINUTE);
        let mut compactions = Vec::new();
        for minute in 0..35i64 {
            window.note(Revision(100 + minute));
            if let Some(revision) = window.due(MINUTE, true) {
                window.compacted(revision);
                compactions.push((minute + 1, revision.0));
            }
        }
        assert_eq!(compactions, [(10, 100), (20, 109), (30, 119)]);
    }

    #[test]
    fn a_day_is_kept_and_then_compacted_every_hour() {
        let mut window = Window::new(Duration::from_secs(24 * 3600));
        assert_eq!(window.note_interval(), 6 * MINUTE);
        let mut compactions = Vec::new();
        for note in 0..270i64 {
            window.note(Revision(note + 1));
            if let Some(revision) = window.due(6 * MINUTE, true) {
                window.compacted(revision);
                compactions.push((note + 1, revision.0));
            }
        }
        assert_eq!(compactions, [(240, 1), (250, 10), (260, 20), (270, 30)]);
    }

    #[test]
    fn who_does_not_lead_only_takes_notes_and_nothing_new_is_not_compacted_again() {
        let mut window = Window::new(10 * MINUTE);
        for _ in 0..20 {
            window.note(Revision(5));
            assert_eq!(window.due(MINUTE, false), None);
        }
        assert_eq!(window.due(MINUTE, true), Some(Revision(5)));
        window.compacted(Revision(5));
        assert_eq!(window.due(60 * MINUTE, true), None);
    }
}
