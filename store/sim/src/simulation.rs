//! One run: a seed, a cluster, its clients, its faults, and the judgement.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use xebec_store_core::ReadView;

use xebec_store_dice::Dice;

use crate::{
    checks::{RaftChecks, Truth, Violation, leases, operations, raft::state_hash, space, watches},
    client::{Client, Rumour},
    entropy,
    faults::Faults,
    history::History,
    machine::Machine,
    network::{Host, Network},
    operator::{Board, Operator},
    trace::Trace,
};

/// Clients that send requests.
const CLIENTS: usize = 4;
/// Machines without a member at first, for members that join.
const SPARE_MACHINES: usize = 2;
/// What the watchers watch.
const WATCHED: [&str; 3] = ["k/", "k/0", "k/"];
/// After the last fault, everything must have come to rest in this time.
const REST_MILLIS_MAX: u64 = 90_000;
/// Events shown with a failure.
const TAIL_LINES: usize = 60;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Members of the cluster.
    pub members: usize,
    /// Simulated milliseconds with faults; coming to rest takes longer.
    pub millis: u64,
    /// Print every event.
    pub verbose: bool,
    /// Keep the network's messages among the events.
    pub messages: bool,
    /// Where directories are made; one in memory is best.
    pub directory: PathBuf,
}

/// What came of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The broken promise, if one was.
    pub violation: Option<String>,
    /// Membership changes that the cluster confirmed.
    #[serde(default)]
    pub changes: u64,
    /// Removed members that refused to start again.
    #[serde(default)]
    pub farewells: u64,
    /// Hash of everything that happened.
    pub trace_hash: u32,
    /// Requests that clients made.
    pub operations: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Starts on damage that were refused.
    pub refusals: u64,
    /// Terms with a leader.
    pub elections: u64,
    /// Members' states that were compared with another's at the same index.
    pub states_compared: u64,
    /// Writes that members without space refused.
    #[serde(default)]
    pub refused_for_space: u64,
    /// Reads that members answered while what was committed waited for space there.
    #[serde(default)]
    pub read_without_space: u64,
    /// Entries committed.
    pub entries: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Simulated milliseconds.
    pub millis: u64,
    /// The last events, if a promise was broken.
    pub tail: Vec<String>,
}

struct World {
    now: u64,
    network: Network,
    machines: Vec<Machine>,
    faults: Faults,
    clients: Runtime,
    history: History,
    board: Board,
    checks: RaftChecks,
    dice: Dice,
    done: Arc<AtomicBool>,
    trace: Trace,
}

/// Runs a seed. It must be the first thing its process does with randomness.
///
/// # Errors
/// If the machine this runs on fails; what the store does wrong is in the outcome.
pub fn run(plan: &Plan) -> Result<Outcome> {
    entropy::seed_this_thread(plan.seed);
    let directory = tempfile::Builder::new().prefix("xebec-sim-").tempdir_in(&plan.directory)?;
    let mut world = World::new(plan, directory.path())?;
    let violation = world.live(plan.millis)?;
    let seen = space::seen(&world.history.operations(), &world.faults.shortages);
    let tail = if violation.is_some() { world.trace.tail(TAIL_LINES) } else { Vec::new() };
    Ok(Outcome {
        seed: plan.seed,
        violation: violation.map(|violation| format!("{}: {}", violation.check, violation.detail)),
        trace_hash: world.trace.hash(),
        changes: world.board.changes(),
        farewells: world.faults.farewells(),
        operations: world.history.count() as u64,
        faults: world.faults.count,
        refused_for_space: seen.refused,
        read_without_space: seen.read,
        refusals: world.faults.refusals,
        elections: world.checks.elections,
        states_compared: world.checks.states_compared,
        entries: world.checks.committed.len() as u64,
        messages: world.network.delivered(),
        millis: world.now,
        tail,
    })
}

impl World {
    fn new(plan: &Plan, directory: &std::path::Path) -> Result<Self> {
        let trace = Trace::new(plan.verbose, plan.messages);
        let mut dice = Dice::new(plan.seed);
        // The clients' host comes after the machines.
        let count = plan.members + SPARE_MACHINES;
        let network = Network::new(count + 1, dice.split(), trace.clone());
        let mut machines = Vec::new();
        for id in 0..count {
            machines.push(Machine::new(id, count, plan.members, directory, network.clone(), dice.split()));
        }
        for machine in &mut machines[..plan.members] {
            machine.start().context("cannot start a member")?;
        }
        let clients = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let nothing = axum::Router::new();
        network.up(count, Host { runtime: clients.handle().clone(), peer: nothing.clone(), client: nothing });
        let (history, done) = (History::default(), Arc::new(AtomicBool::new(false)));
        let rumour = Rumour::default();
        let client = |number| Client {
            number,
            host: count,
            members: count,
            network: network.clone(),
            rumour: rumour.clone(),
            history: history.clone(),
            done: done.clone(),
        };
        for number in 0..CLIENTS {
            clients.spawn(client(number).work(dice.split()));
        }
        for (number, prefix) in WATCHED.iter().enumerate() {
            clients.spawn(client(CLIENTS + number).watch(dice.split(), prefix));
        }
        let board = Board::default();
        let operator = Operator {
            host: count,
            machines: count,
            voters_min: plan.members,
            network: network.clone(),
            board: board.clone(),
            done: done.clone(),
            trace: trace.clone(),
        };
        clients.spawn(operator.work(dice.split()));
        let told = directory.display().to_string();
        let faults = Faults::new(count, plan.members, board.clone(), dice.split(), trace.clone(), told, rumour);
        let checks = RaftChecks::default();
        Ok(Self { now: 0, network, machines, faults, clients, history, board, checks, dice, done, trace })
    }

    /// Lets the cluster live, come to rest, and be judged.
    fn live(&mut self, millis: u64) -> Result<Option<Violation>> {
        while self.now < millis {
            if let Some(violation) = self.step(false)? {
                return Ok(Some(violation));
            }
        }
        self.faults.heal_all(self.now, &mut self.machines, &self.network);
        self.done.store(true, Ordering::Relaxed);
        let limit = self.now + REST_MILLIS_MAX;
        loop {
            if let Some(violation) = self.step(true)? {
                return Ok(Some(violation));
            }
            if self.now.is_multiple_of(100) && self.is_at_rest() {
                return Ok(self.judge().err());
            }
            if self.now > limit {
                return Ok(Some(self.restless()));
            }
        }
    }

    /// One simulated millisecond.
    fn step(&mut self, quiet: bool) -> Result<Option<Violation>> {
        self.now += 1;
        self.faults.advance(self.now, &mut self.machines, &self.network, quiet)?;
        self.network.advance(self.now * 1_000);
        let mut order: Vec<usize> = (0..self.machines.len()).collect();
        self.dice.shuffle(&mut order);
        for id in order {
            let happened = self.machines[id].advance(self.now);
            let was_up = self.machines[id].member().is_some();
            if let Some(wrong) = self.faults.happened(self.now, id, &mut self.machines[id], happened)? {
                return Ok(Some(Violation::new("members start and run", wrong)));
            }
            match self.machines[id].member() {
                Some(member) => {
                    if let Err(violation) = self.checks.observe(id, member, self.now, &self.trace) {
                        self.trace.note(self.now * 1_000, format_args!("VIOLATION {violation:?}"));
                        return Ok(Some(violation));
                    }
                }
                None if was_up => self.checks.forget(id),
                None => {}
            }
        }
        self.clients.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        Ok(None)
    }

    /// Whether every member is up and shows the same, every lease is gone, and every watcher has seen everything.
    fn is_at_rest(&self) -> bool {
        let mut reached = None;
        if !self.faults.is_settled() {
            return false;
        }
        for machine in self.machines.iter().filter(|machine| !self.faults.is_spare(machine.id)) {
            let Some(member) = machine.member() else { return false };
            if member.lacks_room() {
                return false;
            }
            let view = member.keyspace().view();
            let here = (view.position().map(|position| position.index), view.current_revision());
            if *reached.get_or_insert(here) != here || !view.leases().is_ok_and(|leases| leases.is_empty()) {
                return false;
            }
        }
        let revision = reached.map_or(0, |(_, revision)| revision.0);
        let last_seen = |watched: &crate::history::Watched| watched.reached;
        self.history.watchers().iter().all(|watched| last_seen(watched) >= revision || !self.owes(watched, revision))
    }

    /// Whether something between what a watcher has and `revision` concerns it.
    fn owes(&self, watched: &crate::history::Watched, revision: i64) -> bool {
        let Ok(truth) = Truth::new(&self.checks.committed) else { return true };
        let mut changes = truth.changes.range(watched.reached + 1..=revision.max(watched.reached + 1));
        changes.any(|(_, change)| change.events.iter().any(|event| event.kv.key.starts_with(watched.prefix.as_bytes())))
    }

    fn restless(&self) -> Violation {
        let members: Vec<String> = self
            .machines
            .iter()
            .map(|machine| match machine.member() {
                None if self.faults.is_spare(machine.id) => format!("m{} is free", machine.id),
                None => format!("m{} is down", machine.id),
                Some(member) => {
                    let view = member.keyspace().view();
                    let leases = view.leases().map_or(0, |leases| leases.len());
                    format!(
                        "m{}: leads {:?}, applied {:?}, revision {}, {leases} leases",
                        machine.id,
                        member.leads_in_term(),
                        view.position().map(|position| position.index),
                        view.current_revision()
                    )
                }
            })
            .collect();
        let watchers: Vec<i64> = self.history.watchers().iter().map(|watched| watched.reached).collect();
        let detail =
            format!("after {REST_MILLIS_MAX} ms without faults: {members:?}, watchers have reached {watchers:?}");
        Violation::new("members agree, expired leases go and watchers get everything", detail)
    }

    fn judge(&self) -> Result<(), Violation> {
        let truth = Truth::new(&self.checks.committed)?;
        let operations = self.history.operations();
        for machine in &self.machines {
            let Some(member) = machine.member() else { continue };
            let view = member.keyspace().view();
            let unreadable =
                |error: xebec_store_core::ViewError| Violation::new("a keyspace that can be read", error.to_string());
            let (here, model) =
                (state_hash(&*view).map_err(unreadable)?, state_hash(&truth.store).map_err(unreadable)?);
            if here != model {
                let detail = format!("m{} has state {here:08x}, the log means {model:08x}", machine.id);
                return Err(Violation::new("state machine safety", detail));
            }
        }
        operations::check(&truth, &operations)?;
        space::check(&operations, &self.faults.shortages)?;
        for (number, watched) in self.history.watchers().iter().enumerate() {
            watches::check(&truth, number, watched, truth.revision())?;
        }
        leases::check(&truth, &operations, &self.faults.jumps)
    }
}
