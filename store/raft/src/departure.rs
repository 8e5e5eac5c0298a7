//! How a member learns that it is a member no longer, and ends.
//!
//! A removed voter gets no more entries, so that it never applies its own removal; it stands for election instead, and
//! whoever it asks tells it (etcd answers peers with `410 Gone`, `server/etcdserver/api/rafthttp/`). A removed learner
//! asks by itself. What was learned is kept in the data directory, so that a restart says the same.

use std::time::Duration;

use tokio::sync::watch;

use crate::{admission::greet, blocking::blocking, identity::Stage, member::Member};

/// What a removed member says before it ends (etcd `membership.ErrMemberRemoved` and what it logs with it).
pub(crate) const REMOVED: &str = "the member has been permanently removed from the cluster; \
    the data directory used by this member must be removed";
/// How often a member that nobody leads, or that does not vote, asks whether it is still a member.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a removed member goes on, so that who asked it for its removal is answered (etcd
/// `server/etcdserver/server.go`, `stopWithDelay`).
const FAREWELL: Duration = Duration::from_secs(1);

/// A reason to end, once there is one.
#[derive(Debug)]
pub(crate) struct Departure(watch::Sender<Option<String>>);

impl Departure {
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Notes why this member must end; the first reason counts.
    pub fn note(&self, reason: &str) {
        self.0.send_if_modified(|noted| {
            let is_first = noted.is_none();
            if is_first {
                *noted = Some(reason.to_owned());
            }
            is_first
        });
    }

    pub fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    async fn noted(&self) {
        // The sender is `self`, so that this cannot fail.
        if self.0.subscribe().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Member {
    /// Ends the member once there is a reason to.
    pub(crate) async fn end_on_departure(self) {
        self.departure().noted().await;
        let reason = self.departure().reason().unwrap_or_default();
        tracing::error!(member = format!("{:x}", self.id()), reason, "this member ends");
        if reason == REMOVED {
            let member = self.clone();
            let kept = blocking(move || member.papers().advance(Stage::Removed, None)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%error, "the removal could not be noted in the data directory");
            }
            tokio::time::sleep(FAREWELL).await;
        }
        self.stopped().cancel();
    }

    /// Follows the roster for this member's own fate.
    pub(crate) async fn follow_own_entry(self) {
        let mut rosters = self.rosters();
        loop {
            let roster = rosters.borrow_and_update().clone();
            if roster.is_removed(self.id()) {
                self.departure().note(REMOVED);
                return;
            }
            let own = self.papers().incarnation();
            if roster.incarnation(self.id()).is_some_and(|recorded| recorded != own) {
                self.departure().note("another data directory has taken this member's place in the cluster");
                return;
            }
            if rosters.changed().await.is_err() {
                return;
            }
        }
    }

    /// Asks the others, one after the other, whether this member still is one, whenever it has cause to doubt it.
    pub(crate) async fn ask_about_removal(self) {
        let mut ticks = tokio::time::interval(ASK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turn = 0;
        loop {
            ticks.tick().await;
            let roster = self.roster();
            let votes = roster.is_raft_voter(self.id());
            if (votes && self.leaders().borrow().is_some()) || !self.papers().takes_part() {
                continue;
            }
            let passport = self.papers().passport();
            let others = roster.members().iter().filter(|member| member.id != self.id());
            let mut others: Vec<Vec<String>> = others.map(|member| member.peer_urls.clone()).collect();
            if roster.members().is_empty() {
                // Let in, and perhaps removed again before the first entry came.
                others.clone_from(&passport.first_peers);
            }
            if others.is_empty() {
                continue;
            }
            turn += 1;
            let urls = &others[turn % others.len()];
            match greet(self.dialer(), urls, &passport).await {
                Ok(answer) if answer.cluster == self.cluster_id() && answer.is_removed => {
                    self.departure().note(REMOVED)
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(?urls, %error, "a member does not answer"),
            }
        }
    }
}
