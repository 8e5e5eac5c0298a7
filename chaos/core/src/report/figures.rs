//! The numbers of a run: rates, latencies, gaps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::history::{Action, FaultPhase, History, MicroOperation, Operation, Outcome};

/// Slices of time that a run is drawn in, at most.
const SLICES_MAX: u64 = 240;
/// Nanoseconds of the shortest slice.
const SLICE_MIN: u64 = 100_000_000;
/// Nanoseconds after a fault's end in which a gap still counts as its own, unless another fault begins.
const AFTERMATH: u64 = 5_000_000_000;

/// Kinds of operations that are drawn apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes nothing.
    Read,
    /// Changes data, and should be answered at once.
    Write,
    /// Waits for somebody, or keeps something alive.
    Other,
}

/// What class an action is of.
pub fn class(action: &Action) -> Class {
    match action {
        action if action.is_read() => Class::Read,
        Action::Txn { ops } if ops.iter().any(|op| matches!(op, MicroOperation::Append { .. })) => Class::Write,
        Action::Write { .. } | Action::Delete { .. } | Action::Cas { .. } | Action::Add { .. } => Class::Write,
        Action::Increment { .. } | Action::Transfer { .. } | Action::Guarded { .. } => Class::Write,
        Action::Proclaim { .. } | Action::Attach { .. } | Action::Create { .. } => Class::Write,
        Action::Update { .. } | Action::Remove { .. } | Action::LetGo { .. } | Action::Bind { .. } => Class::Write,
        _ => Class::Other,
    }
}

/// Sorted values, for percentiles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution(Vec<u64>);

impl Distribution {
    /// Of these values.
    pub fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    /// The smallest value that at least `percent` of a hundred are not above; `None` of nothing.
    pub fn percentile(&self, percent: u32) -> Option<u64> {
        let rank = (self.0.len() * percent as usize).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// In rising order.
    pub fn values(&self) -> &[u64] {
        &self.0
    }
}

/// One class of operations in one slice of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Slice {
    pub(super) reads: Distribution,
    pub(super) writes: Distribution,
    pub(super) failed: usize,
    pub(super) unknown: usize,
}

/// Operations of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Latencies of those that were answered, in nanoseconds.
    pub answered: Distribution,
    /// Refused.
    pub failed: usize,
    /// Of unknown outcome.
    pub unknown: usize,
}

/// A fault and the longest silences around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultGap {
    /// Kind of fault.
    pub name: String,
    /// Where.
    pub detail: String,
    /// Nanoseconds since the start.
    pub begin: u64,
    /// Nanoseconds since the start; the end of the run if it was never healed.
    pub end: u64,
    /// Longest time without an acknowledged write that touches the fault, in nanoseconds.
    pub write_gap: u64,
    /// As `write_gap`, for reads.
    pub read_gap: u64,
    /// As `write_gap`, for what control loops were waited for: by task, the longest time in which none was done.
    #[serde(default)]
    pub awaited: BTreeMap<String, u64>,
}

/// All figures of a run.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Nanoseconds of the whole run.
    pub duration: u64,
    /// Operations.
    pub operations: usize,
    /// Of these answered.
    pub answered: usize,
    /// Of these certainly without effect.
    pub failed: usize,
    /// Of these unknown.
    pub unknown: usize,
    /// Longest time without an acknowledged write, in nanoseconds.
    pub write_gap: u64,
    /// Longest time without an answered read, in nanoseconds.
    pub read_gap: u64,
    /// Each fault with its gaps, in order of begin.
    pub faults: Vec<FaultGap>,
    /// By name of action.
    pub actions: BTreeMap<String, Row>,
    pub(super) slice: u64,
    pub(super) slices: Vec<Slice>,
}

impl Figures {
    /// Of a history.
    pub fn of(history: &History) -> Self {
        let duration = history.end().max(SLICE_MIN);
        let slice = nice_slice(duration);
        let (reads, writes) = (acknowledgements(history, Class::Read), acknowledgements(history, Class::Write));
        let answered = history.operations.iter().filter(|operation| operation.answer().is_some()).count();
        let failed = history.operations.iter().filter(|operation| operation.failed()).count();
        let longest = |times: &[u64]| times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        Self {
            duration,
            operations: history.operations.len(),
            answered,
            failed,
            unknown: history.operations.len() - answered - failed,
            write_gap: longest(&writes),
            read_gap: longest(&reads),
            faults: fault_gaps(history, duration, &reads, &writes),
            actions: actions(history),
            slice,
            slices: slices(history, duration, slice),
        }
    }

    /// Write gaps by kind of fault.
    pub fn write_gaps(&self) -> BTreeMap<&str, Distribution> {
        let mut kinds: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for fault in &self.faults {
            kinds.entry(&fault.name).or_default().push(fault.write_gap);
        }
        kinds.into_iter().map(|(name, gaps)| (name, Distribution::new(gaps))).collect()
    }
}

/// A length of slices that reads well on an axis.
fn nice_slice(duration: u64) -> u64 {
    let steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000].map(|step| step * SLICE_MIN);
    steps.into_iter().find(|slice| duration / slice < SLICES_MAX).unwrap_or(duration / SLICES_MAX + 1)
}

fn acknowledgements(history: &History, wanted: Class) -> Vec<u64> {
    let answered = history.operations.iter().filter(|operation| operation.answer().is_some());
    let mut times: Vec<u64> = answered
        .filter(|operation| class(&operation.action) == wanted)
        .filter_map(|operation| operation.completed)
        .collect();
    times.sort_unstable();
    times
}

/// The longest silence that touches `from..to`; what is beyond `cut` is another fault's.
fn gap_in(times: &[u64], from: u64, to: u64, cut: u64) -> u64 {
    let first = times.partition_point(|time| *time < from).saturating_sub(1);
    let last = (times.partition_point(|time| *time <= to) + 1).min(times.len());
    let silences = times[first.min(last)..last].windows(2).map(|pair| pair[1].min(cut).saturating_sub(pair[0]));
    silences.max().unwrap_or(0)
}

fn fault_gaps(history: &History, duration: u64, reads: &[u64], writes: &[u64]) -> Vec<FaultGap> {
    let begins = || history.faults.iter().filter(|fault| fault.phase == FaultPhase::Begin);
    let done = awaited(history);
    let gaps = begins().map(|fault| {
        let end = history.faults.iter().find(|other| other.id == fault.id && other.phase == FaultPhase::End);
        let end = end.map_or(duration, |end| end.time);
        let next = begins().map(|other| other.time).find(|time| *time > end).unwrap_or(u64::MAX);
        let until = (end + AFTERMATH).min(next);
        let (name, detail) = (fault.name.clone(), fault.detail.clone());
        let gap = |times: &[u64]| gap_in(times, fault.time, until, next);
        let (write_gap, read_gap) = (gap(writes), gap(reads));
        let awaited = done.iter().map(|(task, times)| (task.clone(), gap(times))).collect();
        FaultGap { name, detail, begin: fault.time, end, write_gap, read_gap, awaited }
    });
    gaps.collect()
}

/// When control loops did what was waited for, by task, in rising order.
fn awaited(history: &History) -> BTreeMap<String, Vec<u64>> {
    let mut tasks: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|operation| operation.answer().is_some()) {
        if let Action::Await { task, .. } = &operation.action {
            tasks.entry(task.clone()).or_default().extend(operation.completed);
        }
    }
    tasks.values_mut().for_each(|times| times.sort_unstable());
    tasks
}

/// The action's name in the file.
pub(super) fn action_name(action: &Action) -> String {
    let value = serde_json::to_value(action).unwrap_or_default();
    value["f"].as_str().unwrap_or("?").to_owned()
}

fn actions(history: &History) -> BTreeMap<String, Row> {
    let mut latencies: BTreeMap<String, (Vec<u64>, usize, usize)> = BTreeMap::new();
    let mut names: std::collections::HashMap<std::mem::Discriminant<Action>, String> = std::collections::HashMap::new();
    for operation in &history.operations {
        let kind = std::mem::discriminant(&operation.action);
        let name = names.entry(kind).or_insert_with(|| action_name(&operation.action));
        let row = latencies.entry(name.clone()).or_default();
        match &operation.outcome {
            Outcome::Ok(_) => row.0.push(latency(operation)),
            Outcome::Failed(_) => row.1 += 1,
            Outcome::Unknown(_) => row.2 += 1,
        }
    }
    let row = |(answered, failed, unknown)| Row { answered: Distribution::new(answered), failed, unknown };
    latencies.into_iter().map(|(name, figures)| (name, row(figures))).collect()
}

fn latency(operation: &Operation) -> u64 {
    operation.completed.unwrap_or(operation.invoked).saturating_sub(operation.invoked)
}

fn slices(history: &History, duration: u64, slice: u64) -> Vec<Slice> {
    let count = usize::try_from(duration.div_ceil(slice)).unwrap_or(usize::MAX).max(1);
    let mut reads: Vec<Vec<u64>> = vec![Vec::new(); count];
    let mut writes = reads.clone();
    let mut slices = vec![Slice::default(); count];
    for operation in &history.operations {
        let at = operation.completed.unwrap_or(operation.invoked) / slice;
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(count - 1);
        match (&operation.outcome, class(&operation.action)) {
            (Outcome::Ok(_), Class::Read) => reads[at].push(latency(operation)),
            (Outcome::Ok(_), Class::Write) => writes[at].push(latency(operation)),
            (Outcome::Ok(_), Class::Other) => {}
            (Outcome::Failed(_), _) => slices[at].failed += 1,
            (Outcome::Unknown(_), _) => slices[at].unknown += 1,
        }
    }
    for ((slice, reads), writes) in slices.iter_mut().zip(reads).zip(writes) {
        slice.reads = Distribution::new(reads);
        slice.writes = Distribution::new(writes);
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Answer, Fault},
        made::{history, ok},
    };

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn percentiles_are_ranks() {
        let values = Distribution::new((1..=100).rev().collect());
        assert_eq!([50, 99, 100].map(|percent| values.percentile(percent)), [Some(50), Some(99), Some(100)]);
        assert_eq!(Distribution::new(vec![7]).percentile(1), Some(7));
        assert_eq!(Distribution::default().percentile(50), None);
    }

    #[test]
    fn a_faults_gap_is_the_longest_silence_that_touches_it() {
        let write = |end: u64| {
            let action = Action::Write { key: "x".into(), value: i64::try_from(end).unwrap() };
            ok(0, end - 1, end, action, Answer::default())
        };
        let mut history = history([1, 10, 11, 14, 15, 30].map(|time| write(time * SECOND)).to_vec());
        let fault =
            |time, phase| Fault { time: time * SECOND, id: 1, name: "kill".into(), phase, detail: String::new() };
        history.faults = vec![fault(12, FaultPhase::Begin), fault(13, FaultPhase::End)];
        let figures = Figures::of(&history);
        assert_eq!(figures.write_gap, 15 * SECOND);
        // The silence from 15 on began in the fault's aftermath.
        assert_eq!(figures.faults[0].write_gap, 15 * SECOND);
        // Another fault at 16 is to blame for all but its first second.
        history.faults.extend([16, 17].map(|time| Fault { id: 2, ..fault(time, FaultPhase::Begin) }));
        assert_eq!(Figures::of(&history).faults[0].write_gap, 3 * SECOND);
    }
}
