//! Making room for a more important pod (upstream `defaultpreemption`).

use k8s_openapi::api::core::v1::Pod;
use std::cmp::Reverse;
use std::sync::Arc;

use crate::decide::{Filters, Unfit};
use crate::filter::Reason;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// Whom to evict where.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// The node on which `pod` then fits.
    pub node: String,
    /// The pods to evict, least important first. Never empty.
    pub victims: Vec<Arc<PodInfo>>,
}

/// Where evicting less important pods makes room for `pod`, with the least harm: lowest highest victim, then least sum of
/// priorities, then fewest victims (`pickOneNodeForPreemption`). `None` if nowhere. Pod disruption budgets are the evictor's
/// business.
pub fn preempt(snapshot: &Snapshot, pod: &Pod, unfit: &Unfit) -> Option<Preemption> {
    let pod = PodInfo::new(pod);
    if pod.never_preempts {
        return None;
    }
    let resolvable = unfit.refused.iter().filter(|(_, reasons)| reasons.iter().all(Reason::preemption_may_help));
    let candidates = resolvable.filter_map(|(node, _)| {
        victims(snapshot, &pod, node).map(|victims| Preemption { node: node.clone(), victims })
    });
    candidates.min_by_key(|candidate| {
        let priorities = || candidate.victims.iter().map(|victim| i64::from(victim.priority));
        (priorities().max(), priorities().sum::<i64>(), candidate.victims.len(), candidate.node.clone())
    })
}

/// The fewest pods whose eviction makes the pod fit on `node`: all less important ones go, and then come back, the most
/// important first, as long as the pod still fits.
fn victims(snapshot: &Snapshot, pod: &PodInfo, node: &str) -> Option<Vec<Arc<PodInfo>>> {
    let mut lesser: Vec<_> =
        snapshot.node(node)?.pods().filter(|other| other.priority < pod.priority).cloned().collect();
    if lesser.is_empty() {
        return None;
    }
    lesser.sort_by_key(|other| (Reverse(other.priority), other.uid.clone()));
    let mut trial = snapshot.clone();
    lesser.iter().for_each(|other| trial.remove_pod(&other.uid));
    if !fits(&trial, pod, node) {
        return None;
    }
    let mut victims = Vec::new();
    for other in lesser {
        let before = trial.clone();
        trial.place(other.clone(), node);
        if !fits(&trial, pod, node) {
            trial = before;
            victims.push(other);
        }
    }
    victims.reverse();
    (!victims.is_empty()).then_some(victims)
}

fn fits(snapshot: &Snapshot, pod: &PodInfo, node: &str) -> bool {
    snapshot.node(node).is_some_and(|node| Filters::new(snapshot, pod).refusals(pod, node).is_empty())
}
