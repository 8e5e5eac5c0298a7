//! Names for the cycles, worst first.

use super::{
    graph::{Graph, Hop, Kind},
    lists::{Inferred, infer},
};
use crate::{
    history::History,
    verdict::{Timeline, VIOLATIONS_MAX, Verdict, Violation},
};

/// Starts from which a shortest cycle is looked for in one connected part.
const STARTS_MAX: usize = 200;

/// Whether the transactions over lists are strictly serializable.
pub fn check(history: &History) -> Verdict {
    let inferred = infer(history);
    let mut violations: Vec<Violation> = inferred
        .direct
        .iter()
        .map(|direct| Violation {
            anomaly: direct.anomaly.to_owned(),
            explanation: direct.explanation.clone(),
            timeline: timeline(history, direct.involved.iter().copied()),
        })
        .collect();
    for (anomaly, cycle) in cycles(&inferred) {
        violations.push(explain(history, &inferred, anomaly, &cycle));
    }
    let count = inferred.transactions.len();
    let summary = format!("{count} transactions over {} lists", inferred.keys.len());
    Verdict::new("serializable", count, summary, violations)
}

/// For each kind of cycle, worst first, one cycle of each connected part that no worse kind has shown already.
fn cycles(inferred: &Inferred<'_>) -> Vec<(String, Vec<Hop>)> {
    let mut found: Vec<(String, Vec<Hop>)> = Vec::new();
    let mut shown = vec![false; inferred.transactions.len()];
    for real_time in [false, true] {
        for anomaly in ["G0", "G1c", "G-single", "G2"] {
            let allowed = move |kind: Kind| match kind {
                Kind::WriteWrite => true,
                Kind::WriteRead => anomaly != "G0",
                Kind::ReadWrite => anomaly == "G-single" || anomaly == "G2",
                Kind::RealTime | Kind::Moment => real_time,
            };
            for part in inferred.graph.connected_parts(allowed) {
                let known = part.iter().any(|node| shown.get(*node).copied().unwrap_or(false));
                if known || found.len() >= VIOLATIONS_MAX {
                    continue;
                }
                if let Some(cycle) = shortest_cycle(&inferred.graph, &part, anomaly == "G-single", allowed) {
                    for node in &part {
                        shown.get_mut(*node).into_iter().for_each(|shown| *shown = true);
                    }
                    let suffix = if real_time { "-realtime" } else { "" };
                    found.push((format!("{anomaly}{suffix}"), cycle));
                }
            }
        }
    }
    found
}

/// The shortest cycle in a part; with `single`, one with exactly one rw edge.
fn shortest_cycle(
    graph: &Graph,
    part: &[usize],
    single: bool,
    allowed: impl Fn(Kind) -> bool + Copy,
) -> Option<Vec<Hop>> {
    let mut inside = vec![false; part.iter().max().map_or(0, |last| last + 1)];
    let largest = part.iter().flat_map(|node| graph.from(*node)).map(|edge| edge.to + 1).max().unwrap_or(0);
    inside.resize(inside.len().max(largest), false);
    part.iter().for_each(|node| inside[*node] = true);
    let starts = part.iter().flat_map(|node| graph.from(*node).iter().map(|edge| (*node, *edge)));
    let starts = starts
        .filter(|(_, edge)| allowed(edge.kind) && inside[edge.to])
        .filter(|(_, edge)| if single { edge.kind == Kind::ReadWrite } else { edge.kind != Kind::Moment });
    let rest = |kind: Kind| allowed(kind) && !(single && kind == Kind::ReadWrite);
    let cycles = starts.take(STARTS_MAX).filter_map(|(node, edge)| {
        let mut cycle = vec![(node, edge)];
        cycle.extend(graph.shortest_path(edge.to, node, &inside, rest)?);
        Some(cycle)
    });
    cycles.min_by_key(|cycle| cycle.iter().filter(|(_, edge)| edge.kind != Kind::Moment).count())
}

fn explain(history: &History, inferred: &Inferred<'_>, anomaly: String, cycle: &[Hop]) -> Violation {
    let is_transaction = |node: usize| node < inferred.transactions.len();
    // Moments are steps of one rt edge between transactions.
    let start = cycle.iter().position(|(node, _)| is_transaction(*node)).unwrap_or(0);
    let hops = cycle[start..].iter().chain(&cycle[..start]);
    let mut involved = Vec::new();
    let mut lines = Vec::new();
    for (node, edge) in hops {
        if is_transaction(*node) {
            involved.push(inferred.transactions[*node]);
            let number = involved.len();
            let reason = match edge.kind {
                Kind::WriteWrite => format!("whose append to {} follows its own:", inferred.keys[edge.key as usize]),
                Kind::WriteRead => format!("which read its append to {}:", inferred.keys[edge.key as usize]),
                Kind::ReadWrite => format!("whose append to {} it did not see:", inferred.keys[edge.key as usize]),
                Kind::RealTime | Kind::Moment => "which began after it had ended:".to_owned(),
            };
            lines.push(format!("T{number} -{}-> next, {reason}", edge.kind.name()));
        }
    }
    let count = involved.len();
    let explanation = format!("a cycle of {count} transactions (the last comes before T1): {}", lines.join(" "));
    let mut bars = Vec::new();
    for (number, index) in (1..).zip(&involved) {
        let mut bar = history.operations[*index].bar(false);
        bar.row = format!("T{number} {}", bar.row);
        bars.push(bar);
    }
    Violation { anomaly, explanation, timeline: Timeline::new(bars) }
}

fn timeline(history: &History, involved: impl Iterator<Item = usize>) -> Timeline {
    Timeline::new(involved.map(|index| history.operations[index].bar(false)).collect())
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
