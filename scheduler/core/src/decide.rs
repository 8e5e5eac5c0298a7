//! The decision.

use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::affinity::Required;
use crate::filter::{Reason, refusals};
use crate::pod::PodInfo;
use crate::score::scores;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::spread::HardSpread;

/// Where a pod goes, or why nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Bind {
        /// Its name.
        node: String,
    },
    /// Nowhere for now.
    Unfit(Unfit),
}

/// Why no node fits; its `Display` is the message upstream writes into events and conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    /// How many nodes there are.
    pub nodes: usize,
    /// What was wrong, node by node.
    pub refused: BTreeMap<String, Vec<Reason>>,
}

impl Unfit {
    /// What upstream adds to the message when no pod was preempted.
    pub fn preemption_note(&self) -> String {
        if self.nodes == 0 {
            return String::new();
        }
        let helpful = |reasons: &&Vec<Reason>| reasons.iter().all(Reason::preemption_may_help);
        let no_victims = self.refused.values().filter(helpful).count();
        let hopeless = self.refused.len() - no_victims;
        let texts = [
            (no_victims, "No preemption victims found for incoming pod"),
            (hopeless, "Preemption is not helpful for scheduling"),
        ];
        let mut texts: Vec<_> =
            texts.iter().filter(|(count, _)| *count > 0).map(|(count, text)| format!("{count} {text}")).collect();
        texts.sort();
        format!("preemption: 0/{} nodes are available: {}.", self.nodes, texts.join(", "))
    }

    /// The plugins that refused nodes.
    pub fn plugins(&self) -> BTreeSet<&'static str> {
        self.refused.values().flatten().map(Reason::plugin).collect()
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for reason in self.refused.values().flatten() {
            *counts.entry(reason.to_string()).or_insert(0) += 1;
        }
        // Upstream sorts the finished texts, counts included (`FitError.Error`).
        let texts: BTreeSet<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let texts: Vec<String> = texts.into_iter().collect();
        write!(f, "0/{} nodes are available: {}.", self.nodes, texts.join(", "))
    }
}

/// Decides where `pod` goes. The same snapshot and pod always give the same answer.
pub fn schedule(snapshot: &Snapshot, pod: &Pod) -> Decision {
    decide(snapshot, &PodInfo::new(pod))
}

pub(crate) fn decide(snapshot: &Snapshot, pod: &PodInfo) -> Decision {
    let filters = Filters::new(snapshot, pod);
    let mut fitting = Vec::new();
    let mut unfit = Unfit::default();
    for node in snapshot.nodes() {
        unfit.nodes += 1;
        let refusals = filters.refusals(pod, node);
        if refusals.is_empty() {
            fitting.push(node);
        } else {
            unfit.refused.insert(node.name.to_string(), refusals);
        }
    }
    match best(snapshot, pod, &fitting) {
        Some(node) => Decision::Bind { node: node.name.to_string() },
        None => Decision::Unfit(unfit),
    }
}

/// All filters, with what they share between nodes worked out once.
pub(crate) struct Filters {
    spread: HardSpread,
    affinity: Required,
}

impl Filters {
    pub(crate) fn new(snapshot: &Snapshot, pod: &PodInfo) -> Self {
        Self { spread: HardSpread::new(snapshot, pod), affinity: Required::new(snapshot, pod) }
    }

    /// The reasons of the first filter that refuses, in upstream's order.
    pub(crate) fn refusals(&self, pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
        let refusals = refusals(pod, node);
        if !refusals.is_empty() {
            return refusals;
        }
        let between_pods = || self.spread.refusal(node).or_else(|| self.affinity.refusal(node));
        between_pods().into_iter().collect()
    }
}

fn best<'a>(snapshot: &Snapshot, pod: &PodInfo, fitting: &[&'a Arc<NodeInfo>]) -> Option<&'a Arc<NodeInfo>> {
    if let [only] = fitting {
        return Some(only);
    }
    let scores = scores(snapshot, pod, fitting);
    let ranked = fitting.iter().zip(scores);
    ranked.max_by_key(|(node, score)| (*score, tie_break(&pod.uid, &node.name))).map(|(node, _)| *node)
}

/// Spreads ties over the nodes by a rule instead of chance: FNV-1a (64 bits) of pod uid and node name, mixed at the end
/// because neighbouring names differ in their last byte only.
fn tie_break(uid: &str, node: &str) -> u64 {
    let bytes = uid.bytes().chain([0]).chain(node.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}
