//! The bugs, and which runs find them.

use xebec_planted::PlantedBug;

/// What a chaos run works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Three members of the store.
    Store,
    /// Three masters with hollow nodes.
    Plane,
}

/// A chaos run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// On what.
    pub system: System,
    /// As in `--workload`.
    pub workloads: &'static str,
    /// As in `--faults`.
    pub faults: &'static str,
    /// How long it lasts if nothing is found.
    pub seconds: u64,
}

/// A bug, and what finds it.
#[derive(Debug)]
pub struct Mutation {
    /// The bug.
    pub bug: PlantedBug,
    /// In one line.
    pub about: &'static str,
    /// The run that finds it.
    pub run: Run,
    /// Whether it is found in seconds, so that the run is part of the tests.
    pub is_quick: bool,
    /// Whether simulations find it, too.
    pub is_simulated: bool,
}

const fn store(workloads: &'static str, faults: &'static str, seconds: u64) -> Run {
    Run { system: System::Store, workloads, faults, seconds }
}

const fn plane(workloads: &'static str, seconds: u64) -> Run {
    Run { system: System::Plane, workloads, faults: "none", seconds }
}

/// Runs without a bug: nothing planted, nothing found. Otherwise what is found in the others would say nothing. Tests run all
/// faults there are elsewhere (`chaos/tests/chaos_run.rs`), so that these are short there.
pub const CLEAN: [Run; 2] = [
    store("register,set,append,lock,election,watch,lease", "kill-leader,leader-alone,power-loss-all", 45),
    plane("api-register,objects,leadership,bindings", 30),
];

/// As [`CLEAN`], for the tests.
pub const CLEAN_QUICK: [Run; 2] = [
    store("register,set,append,lock,election,watch", "kill-leader", 16),
    plane("api-register,objects,leadership,bindings", 10),
];

/// All of them.
pub const MUTATIONS: [Mutation; 12] = [
    Mutation {
        bug: PlantedBug::AcknowledgeBeforeQuorum,
        about: "answers before a majority has it on disk",
        run: store("register,set,append", "leader-alone", 30),
        is_quick: true,
        is_simulated: true,
    },
    Mutation {
        bug: PlantedBug::SkipFsync,
        about: "reports entries as flushed without an fsync",
        run: store("register,set,append", "power-loss-all", 20),
        is_quick: true,
        is_simulated: true,
    },
    Mutation {
        bug: PlantedBug::IgnoreFence,
        about: "takes a fence in a transaction for true",
        run: store("lock,election", "none", 25),
        is_quick: true,
        is_simulated: false,
    },
    Mutation {
        bug: PlantedBug::DropWatchEvent,
        about: "keeps an event in fifty from watchers",
        run: store("register,watch", "none", 12),
        is_quick: true,
        is_simulated: true,
    },
    Mutation {
        bug: PlantedBug::ReuseRevision,
        about: "gives the last revision away again after a restart",
        run: store("register,set,watch", "kill-leader", 30),
        is_quick: true,
        is_simulated: true,
    },
    Mutation {
        bug: PlantedBug::VoteForStaleLogs,
        about: "votes for whoever asks, whatever its log, whoever leads",
        run: store("register,set,append", "left-behind", 50),
        is_quick: false,
        is_simulated: true,
    },
    Mutation {
        bug: PlantedBug::StaleRead,
        about: "serves reads as if it had an endless lease on leading",
        run: store("register", "leader-alone", 30),
        is_quick: true,
        is_simulated: true,
    },
    Mutation {
        bug: PlantedBug::ForgetLease,
        about: "a new leader overlooks a lease",
        run: store("lease", "kill-leader", 75),
        is_quick: false,
        is_simulated: true,
    },
    Mutation {
        bug: PlantedBug::ForgetBindingPrecondition,
        about: "the API server binds a pod that somebody may have bound since it looked",
        run: plane("bindings", 20),
        is_quick: true,
        is_simulated: false,
    },
    Mutation {
        bug: PlantedBug::IgnoreFencingToken,
        about: "the API server leaves the fence out of a leader's write",
        run: plane("leadership", 25),
        is_quick: true,
        is_simulated: false,
    },
    Mutation {
        bug: PlantedBug::DropCacheEvent,
        about: "the watch cache passes a change in fifty over",
        run: plane("objects", 20),
        is_quick: true,
        is_simulated: false,
    },
    Mutation {
        bug: PlantedBug::StaleCacheRead,
        about: "consistent reads come from a cache that may be behind",
        run: plane("api-register,objects", 20),
        is_quick: true,
        is_simulated: false,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_run_that_finds_it() {
        for bug in PlantedBug::ALL {
            assert_eq!(MUTATIONS.iter().filter(|mutation| mutation.bug == bug).count(), 1, "{}", bug.name());
        }
    }
}
