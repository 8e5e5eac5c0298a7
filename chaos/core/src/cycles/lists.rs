//! What the reads of lists tell about the transactions, and what is wrong already without a cycle.

use std::collections::{HashMap, HashSet};

use super::graph::{Graph, Kind};
use crate::history::{Action, History, MicroOperation, Operation, Outcome};

/// A transaction, by its index in the history's operations.
pub(super) type Transaction = usize;

/// Something that no order of transactions allows.
#[derive(Debug)]
pub(super) struct Direct {
    /// Elle's name.
    pub(super) anomaly: &'static str,
    pub(super) explanation: String,
    pub(super) involved: Vec<Transaction>,
}

/// Dependencies between transactions.
#[derive(Debug)]
pub(super) struct Inferred<'history> {
    /// Nodes `0..transactions.len()` are transactions, the others moments.
    pub(super) graph: Graph,
    pub(super) transactions: Vec<Transaction>,
    /// Names of lists, by the number in an edge.
    pub(super) keys: Vec<&'history str>,
    pub(super) direct: Vec<Direct>,
}

struct Reads<'history> {
    list: &'history [i64],
    by: Transaction,
}

#[derive(Default)]
struct List<'history> {
    /// Value to the transaction that appended it.
    appended: HashMap<i64, Transaction>,
    reads: Vec<Reads<'history>>,
}

/// Reads a history's transactions.
pub(super) fn infer(history: &History) -> Inferred<'_> {
    let mut names: Vec<&str> = Vec::new();
    let mut lists: HashMap<&str, List<'_>> = HashMap::new();
    let mut direct = Vec::new();
    for (index, operation) in history.operations.iter().enumerate() {
        let Action::Txn { ops } = &operation.action else { continue };
        let reads = operation.answer().and_then(|answer| answer.reads.as_deref()).unwrap_or_default();
        let mut own: HashMap<&str, Vec<i64>> = HashMap::new();
        let mut seen: HashMap<&str, &[i64]> = HashMap::new();
        for (position, step) in ops.iter().enumerate() {
            let list = lists.entry(step.key()).or_insert_with(|| {
                names.push(step.key());
                List::default()
            });
            match step {
                MicroOperation::Append { key, value } => {
                    list.appended.insert(*value, index);
                    own.entry(key).or_default().push(*value);
                }
                MicroOperation::Read { key } => {
                    let Some(Some(read)) = reads.get(position) else { continue };
                    let mine = own.get(key.as_str()).map_or(&[][..], Vec::as_slice);
                    let before = read.strip_suffix(mine);
                    if before.is_none() || seen.get(key.as_str()).is_some_and(|seen| Some(*seen) != before) {
                        direct.push(internal(key, index));
                    }
                    let Some(before) = before else { continue };
                    if seen.insert(key, before).is_none() {
                        list.reads.push(Reads { list: before, by: index });
                    }
                }
            }
        }
    }
    build(history, names, &lists, direct)
}

fn internal(key: &str, by: Transaction) -> Direct {
    let explanation = format!("a transaction's reads of {key} disagree with each other or with its own appends");
    Direct { anomaly: "internal", explanation, involved: vec![by] }
}

fn build<'history>(
    history: &'history History,
    names: Vec<&'history str>,
    lists: &HashMap<&'history str, List<'history>>,
    mut direct: Vec<Direct>,
) -> Inferred<'history> {
    let mut edges = Vec::new();
    let mut happened: HashSet<Transaction> = HashSet::new();
    for (number, name) in (0_u32..).zip(&names) {
        let list = &lists[name];
        happened.extend(list.reads.iter().map(|read| read.by));
        let longest = list.reads.iter().max_by_key(|read| read.list.len());
        let flaws = flaws(history, name, list);
        let consistent = flaws.is_empty();
        direct.extend(flaws);
        let order = longest.map_or(&[][..], |read| read.list);
        happened.extend(order.iter().filter_map(|value| list.appended.get(value)));
        if consistent {
            connect(history, number, list, order, &mut edges);
        }
    }
    let transactions: Vec<Transaction> = (0..history.operations.len())
        .filter(|index| matches!(history.operations[*index].action, Action::Txn { .. }))
        .filter(|index| history.operations[*index].answer().is_some() || happened.contains(index))
        .collect();
    let nodes: HashMap<_, _> = transactions.iter().enumerate().map(|(node, index)| (*index, node)).collect();
    let mut graph = Graph::with_nodes(transactions.len());
    for (from, to, kind, key) in edges {
        if let (Some(from), Some(to)) = (nodes.get(&from), nodes.get(&to)) {
            graph.connect(*from, *to, kind, key);
        }
    }
    connect_real_time(history, &transactions, &mut graph);
    Inferred { graph, transactions, keys: names, direct }
}

/// What is wrong with one list by itself.
fn flaws(history: &History, name: &str, list: &List<'_>) -> Vec<Direct> {
    let mut found = Vec::new();
    let mut add = |anomaly, explanation, involved| found.push(Direct { anomaly, explanation, involved });
    let longest = list.reads.iter().max_by_key(|read| read.list.len());
    for read in &list.reads {
        let mut once = HashSet::new();
        for value in read.list {
            if !once.insert(value) {
                add("duplicate-elements", format!("{value} stands twice in {name}"), vec![read.by]);
            }
            match list.appended.get(value) {
                None => add("unwritten", format!("{value} in {name} was appended by nobody"), vec![read.by]),
                Some(by) if history.operations[*by].failed() => {
                    let explanation = format!("{value} in {name} was read though its transaction failed");
                    add("G1a", explanation, vec![*by, read.by]);
                }
                Some(_) => {}
            }
        }
        if let Some(by) = read.list.last().and_then(|value| list.appended.get(value)).filter(|by| **by != read.by) {
            let last = read.list.last().copied();
            if last_append(&history.operations[*by], name) != last {
                let explanation = format!("{name} was read between two appends of one transaction");
                add("G1b", explanation, vec![*by, read.by]);
            }
        }
        if let Some(longest) = longest.filter(|longest| !longest.list.starts_with(read.list)) {
            let explanation = format!("two reads of {name} are not one the beginning of the other");
            add("incompatible-order", explanation, vec![read.by, longest.by]);
        }
    }
    found
}

fn last_append(operation: &Operation, name: &str) -> Option<i64> {
    let Action::Txn { ops } = &operation.action else { return None };
    ops.iter().rev().find_map(|step| match step {
        MicroOperation::Append { key, value } if key == name => Some(*value),
        _ => None,
    })
}

type EdgeBetween = (Transaction, Transaction, Kind, u32);

fn connect(history: &History, number: u32, list: &List<'_>, order: &[i64], edges: &mut Vec<EdgeBetween>) {
    let by = |value: &i64| list.appended[value];
    for pair in order.windows(2) {
        edges.push((by(&pair[0]), by(&pair[1]), Kind::WriteWrite, number));
    }
    // Acknowledged appends that no read shows come after every read.
    let in_order: HashSet<_> = order.iter().collect();
    let mut hidden: Vec<Transaction> = list
        .appended
        .iter()
        .filter(|(value, by)| !in_order.contains(value) && matches!(history.operations[**by].outcome, Outcome::Ok(_)))
        .map(|(_, by)| *by)
        .collect();
    hidden.sort_unstable();
    for read in &list.reads {
        if let Some(last) = read.list.last() {
            edges.push((by(last), read.by, Kind::WriteRead, number));
        }
        match order.get(read.list.len()) {
            Some(next) => edges.push((read.by, by(next), Kind::ReadWrite, number)),
            None => edges.extend(hidden.iter().map(|hidden| (read.by, *hidden, Kind::ReadWrite, number))),
        }
    }
    if let Some(last) = order.last() {
        edges.extend(hidden.iter().map(|hidden| (by(last), *hidden, Kind::WriteWrite, number)));
    }
}

/// A chain of moments, one for each completion, stands for the edges from every transaction to all that began after it.
fn connect_real_time(history: &History, transactions: &[Transaction], graph: &mut Graph) {
    let until = |node: &usize| history.operations[transactions[*node]].effective_until();
    let mut ended: Vec<usize> = (0..transactions.len()).filter(|node| until(node) != u64::MAX).collect();
    ended.sort_by_key(until);
    let mut moments: Vec<(u64, usize)> = Vec::with_capacity(ended.len());
    for node in ended {
        let moment = graph.add_node();
        graph.connect(node, moment, Kind::RealTime, 0);
        if let Some((_, before)) = moments.last() {
            graph.connect(*before, moment, Kind::Moment, 0);
        }
        moments.push((until(&node), moment));
    }
    for (node, index) in transactions.iter().enumerate() {
        let before = moments.partition_point(|(time, _)| *time < history.operations[*index].invoked);
        if let Some((_, moment)) = before.checked_sub(1).map(|last| moments[last]) {
            graph.connect(moment, node, Kind::Moment, 0);
        }
    }
}
