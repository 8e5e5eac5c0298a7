//! Which of the nodes that fit suits best: upstream's default plugins with their default weights.

use std::sync::Arc;

use crate::affinity::preferences;
use crate::filter::tolerated;
use crate::pod::PodInfo;
use crate::selector::term_accepts;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::spread::soft_costs;

/// The best score of a plugin.
const MAX: i64 = 100;
const TAINT_WEIGHT: i64 = 3;
const NODE_AFFINITY_WEIGHT: i64 = 2;
const SPREAD_WEIGHT: i64 = 2;
const POD_AFFINITY_WEIGHT: i64 = 2;
const LEAST_ALLOCATED_WEIGHT: i64 = 1;
const BALANCED_WEIGHT: i64 = 1;
const IMAGE_WEIGHT: i64 = 1;
/// Images smaller than this are as good as absent, in bytes (upstream `minThreshold`).
const IMAGE_BYTES_MIN: i64 = 23 * 1024 * 1024;
/// Images larger than this, per container, count no more, in bytes (upstream `maxContainerThreshold`).
const IMAGE_BYTES_MAX: i64 = 1000 * 1024 * 1024;

/// The score of each node, in the order given.
pub(crate) fn scores(snapshot: &Snapshot, pod: &PodInfo, nodes: &[&Arc<NodeInfo>]) -> Vec<i64> {
    let mut total: Vec<i64> = nodes
        .iter()
        .map(|node| {
            LEAST_ALLOCATED_WEIGHT * least_allocated(pod, node)
                + BALANCED_WEIGHT * balanced(pod, node)
                + IMAGE_WEIGHT * image_locality(pod, node)
        })
        .collect();
    let mut add = |scores: Vec<i64>, weight: i64| {
        for (total, score) in total.iter_mut().zip(scores) {
            *total += weight * score;
        }
    };
    add(reversed(nodes.iter().map(|node| untolerated(pod, node)).collect()), TAINT_WEIGHT);
    add(proportional(nodes.iter().map(|node| preferred_node(pod, node)).collect()), NODE_AFFINITY_WEIGHT);
    if let Some(preferences) = preferences(snapshot, pod, nodes) {
        add(ranged(preferences), POD_AFFINITY_WEIGHT);
    }
    if let Some(costs) = soft_costs(snapshot, pod, nodes) {
        add(cheapest(costs), SPREAD_WEIGHT);
    }
    total
}

fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let free = |used: i64, has: i64| if has == 0 || used > has { 0 } else { percent(has - used, has) };
    let cpu = free(node.scored.0.saturating_add(pod.scored.0), node.allocatable.milli_cpu);
    let memory = free(node.scored.1.saturating_add(pod.scored.1), node.allocatable.memory);
    (cpu + memory) / 2
}

/// The closer the fractions of CPU and memory in use, the better. With two fractions the standard deviation is half
/// their distance (upstream `balancedResourceScorer`, which takes real requests here).
fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let fraction = |used: i64, has: i64| if has <= 0 { 0 } else { percent(used, has).clamp(0, MAX) };
    let cpu = fraction(node.used.milli_cpu.saturating_add(pod.requests.milli_cpu), node.allocatable.milli_cpu);
    let memory = fraction(node.used.memory.saturating_add(pod.requests.memory), node.allocatable.memory);
    MAX - (cpu - memory).abs() / 2
}

fn percent(part: i64, whole: i64) -> i64 {
    i64::try_from(i128::from(part) * i128::from(MAX) / i128::from(whole)).unwrap_or(MAX)
}

fn image_locality(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let present = pod.spec.containers.iter().filter_map(|container| {
        let image = container.image.as_deref()?;
        // A name without tag or digest means `latest`.
        let tagged = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let normalized = if tagged { image.to_owned() } else { format!("{image}:latest") };
        node.images.get(&normalized)
    });
    let bytes: i64 = present.sum();
    let containers = i64::try_from(pod.spec.containers.len()).unwrap_or(1).max(1);
    let most = IMAGE_BYTES_MAX.saturating_mul(containers);
    percent(bytes.clamp(IMAGE_BYTES_MIN, most) - IMAGE_BYTES_MIN, most - IMAGE_BYTES_MIN)
}

/// How many `PreferNoSchedule` taints the pod does not tolerate.
fn untolerated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let tolerations = pod.spec.tolerations.as_deref().unwrap_or_default();
    let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    i64::try_from(soft.filter(|taint| !tolerated(taint, tolerations)).count()).unwrap_or(i64::MAX)
}

/// The weights of the preferred node affinity terms the node meets.
fn preferred_node(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let affinity = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let met = preferred.into_iter().flatten().filter(|term| term_accepts(&term.preference, &node.name, &node.labels));
    met.map(|term| i64::from(term.weight)).sum()
}

/// 0 to the maximum, in proportion to the largest (`helper.DefaultNormalizeScore`).
fn proportional(raw: Vec<i64>) -> Vec<i64> {
    let most = raw.iter().copied().max().unwrap_or(0);
    raw.into_iter().map(|score| if most == 0 { 0 } else { score * MAX / most }).collect()
}

fn reversed(raw: Vec<i64>) -> Vec<i64> {
    proportional(raw).into_iter().map(|score| MAX - score).collect()
}

/// 0 to the maximum, between the smallest and the largest.
fn ranged(raw: Vec<i64>) -> Vec<i64> {
    let (least, most) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    raw.into_iter().map(|score| if most == least { 0 } else { (score - least) * MAX / (most - least) }).collect()
}

/// The lower the cost the better; nodes without a cost get nothing (upstream's `NormalizeScore` of topology spread).
fn cheapest(costs: Vec<Option<i64>>) -> Vec<i64> {
    let known = || costs.iter().flatten().copied();
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let score = |cost: i64| if most == 0 { MAX } else { MAX * (most + least - cost) / most };
    costs.iter().map(|cost| cost.map_or(0, score)).collect()
}
