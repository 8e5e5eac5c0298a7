//! Which machines have members, and what becomes of those whose members were added or removed: a machine that is listed
//! and free is started, one whose member was removed must say so, refuse to start again, and is free once it was wiped.

use std::{collections::BTreeSet, io};

use super::Faults;
use crate::{
    machine::Machine,
    operator::{Board, Listed},
};

/// What a removed member says (etcd's words).
const REMOVED: &str = "permanently removed";
/// What a member says that was told other members than there are, or could ask nobody: the operator starts it again.
const CANNOT_JOIN: [&str; 2] = ["error validating peerURLs", "cannot fetch cluster info"];
/// Milliseconds until a member that could not join is started again.
const JOIN_AGAIN_MILLIS: u64 = 200;

/// What a machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing.
    Spare,
    /// A member with this id, if it is known yet.
    Member(Option<u64>),
    /// A member that has not taken part yet.
    Joining(u64),
    /// A member that was removed.
    Leaving(Option<u64>),
}

/// All machines.
pub(super) struct Estate {
    board: Board,
    lists: u64,
    places: Vec<Place>,
    /// Members whose machines were wiped.
    gone: BTreeSet<u64>,
    /// Removed members that refused to start.
    pub(super) farewells: u64,
}

impl Estate {
    pub(super) fn new(machines: usize, members: usize, board: Board) -> Self {
        let place = |machine| if machine < members { Place::Member(None) } else { Place::Spare };
        for machine in members..machines {
            board.set_spare(machine, true);
        }
        Self { board, lists: 0, places: (0..machines).map(place).collect(), gone: BTreeSet::new(), farewells: 0 }
    }

    pub(super) fn is_spare(&self, machine: usize) -> bool {
        self.places[machine] == Place::Spare
    }

    fn is_leaving(&self, machine: usize) -> bool {
        matches!(self.places[machine], Place::Leaving(_))
    }
}

impl Faults {
    /// Whether no member belongs on this machine.
    #[must_use]
    pub fn is_spare(&self, machine: usize) -> bool {
        self.estate.is_spare(machine)
    }

    /// Whether nobody joins or leaves, as of the last list.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.estate.lists == self.estate.board.lists()
            && self.estate.places.iter().all(|place| matches!(place, Place::Spare | Place::Member(_)))
    }

    /// Removed members that refused to start.
    #[must_use]
    pub fn farewells(&self) -> u64 {
        self.estate.farewells
    }

    /// Does what a new list of members asks for.
    pub(super) fn follow_the_list(&mut self, now: u64, machines: &mut [Machine]) {
        if self.estate.lists == self.estate.board.lists() {
            return;
        }
        let (members, lists) = self.estate.board.members();
        self.estate.lists = lists;
        for (machine, host) in machines.iter_mut().enumerate() {
            let listed =
                members.iter().find(|member| member.machine == machine && !self.estate.gone.contains(&member.id));
            let before = self.estate.places[machine];
            let after = next_place(before, listed);
            if matches!(after, Place::Joining(_)) {
                host.join(members.iter().map(|member| member.machine));
            }
            if before == Place::Spare && after != Place::Spare {
                self.estate.board.set_spare(machine, false);
                self.patients[machine].start_at = Some(now + self.dice.within(1, 1_500));
            }
            if after != before {
                self.note(now, format_args!("m{machine} was {before:?} and is {after:?}"));
            }
            self.estate.places[machine] = after;
        }
    }

    /// A member has ended by itself; whether it did so because it was removed.
    pub(super) fn ended_as_removed(&mut self, machine: usize, reason: &str) -> bool {
        if !reason.contains(REMOVED) {
            return false;
        }
        // It may know before the operator does; should it not be true, the end of the run finds it leaving for ever.
        if let Place::Member(id) = self.estate.places[machine] {
            self.estate.places[machine] = Place::Leaving(id);
        } else if let Place::Joining(id) = self.estate.places[machine] {
            self.estate.places[machine] = Place::Leaving(Some(id));
        }
        true
    }

    /// A member without damage has refused to start; whether it is right.
    ///
    /// # Errors
    /// If the host running this fails.
    pub(super) fn refused_as_joiner(
        &mut self,
        now: u64,
        machine: usize,
        host: &mut Machine,
        error: &str,
    ) -> io::Result<bool> {
        let cannot_join = CANNOT_JOIN.iter().any(|words| error.contains(words));
        match self.estate.places[machine] {
            Place::Joining(_) if cannot_join => {
                self.patients[machine].start_at = Some(now + JOIN_AGAIN_MILLIS);
                Ok(true)
            }
            Place::Leaving(id) if error.contains(REMOVED) || error.contains(CANNOT_JOIN[0]) => {
                self.estate.farewells += u64::from(error.contains(REMOVED));
                self.estate.gone.extend(id);
                host.wipe(self.dice.split())?;
                self.patients[machine] = super::Patient::default();
                self.estate.places[machine] = Place::Spare;
                self.estate.board.set_spare(machine, true);
                self.note(now, format_args!("m{machine} is wiped and free"));
                Ok(true)
            }
            Place::Leaving(_) if cannot_join => {
                self.patients[machine].start_at = Some(now + JOIN_AGAIN_MILLIS);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether a member that stops may do so because it is leaving.
    pub(super) fn is_leaving(&self, machine: usize) -> bool {
        self.estate.is_leaving(machine)
    }
}

fn next_place(before: Place, listed: Option<&Listed>) -> Place {
    match (before, listed) {
        (Place::Spare, Some(listed)) => Place::Joining(listed.id),
        (Place::Joining(id), Some(listed)) if listed.id == id && listed.is_started => Place::Member(Some(id)),
        (Place::Joining(id), Some(listed)) if listed.id == id => before,
        (Place::Joining(id), _) => Place::Leaving(Some(id)),
        (Place::Member(None), Some(listed)) => Place::Member(Some(listed.id)),
        (Place::Member(Some(id)), Some(listed)) if listed.id == id => before,
        (Place::Member(id), _) => Place::Leaving(id),
        (Place::Spare, None) | (Place::Leaving(_), _) => before,
    }
}
