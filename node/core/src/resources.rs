//! Quantities to the kernel's units, with upstream's formulas (`pkg/kubelet/cm/helpers_linux.go`,
//! `pkg/kubelet/qos/policy.go`).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::pod;

/// Length of a CPU quota period, in microseconds.
pub const CPU_PERIOD_MICROS: i64 = 100_000;
const CPU_SHARES_MIN: i64 = 2;
const CPU_SHARES_MAX: i64 = 262_144;
const CPU_QUOTA_MICROS_MIN: i64 = 1_000;

/// What a container's cgroup gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cgroup {
    /// Relative weight.
    pub cpu_shares: i64,
    /// CPU time per period in microseconds; 0 is no limit.
    pub cpu_quota_micros: i64,
    /// Bytes of memory; 0 is no limit.
    pub memory_limit_bytes: i64,
    /// How gladly the kernel kills it, -1000 to 1000.
    pub oom_score_adj: i64,
}

/// The number a quantity stands for; `None` if it is not one.
pub fn value(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || "+-.".contains(c)).len();
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024_f64.powi(3),
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        "Ei" => 1024_f64.powi(6),
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

/// A quantity in thousandths, rounded up.
pub fn milli_value(quantity: &Quantity) -> i64 {
    value(quantity).map_or(0, |value| (value * 1000.0 - 1e-6).ceil() as i64)
}

/// A quantity in whole units, rounded up.
pub fn whole_value(quantity: &Quantity) -> i64 {
    value(quantity).map_or(0, |value| (value - 1e-9).ceil() as i64)
}

fn pick<'a>(list: Option<&'a BTreeMap<String, Quantity>>, name: &str) -> Option<&'a Quantity> {
    list.and_then(|list| list.get(name))
}

/// What a container's cgroup gets on a machine with this much memory.
pub fn cgroup(pod: &Pod, container: &Container, machine_memory_bytes: i64) -> Cgroup {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let cpu_limit = pick(limits, "cpu").map_or(0, milli_value);
    let cpu_request = pick(requests, "cpu").map_or(cpu_limit, milli_value);
    let memory_request = pick(requests, "memory").or(pick(limits, "memory")).map_or(0, whole_value);
    let cpu_quota_micros = match cpu_limit {
        0 => 0,
        milli => (milli * CPU_PERIOD_MICROS / 1000).max(CPU_QUOTA_MICROS_MIN),
    };
    Cgroup {
        cpu_shares: cpu_shares(cpu_request),
        cpu_quota_micros,
        memory_limit_bytes: pick(limits, "memory").map_or(0, whole_value),
        oom_score_adj: oom_score_adj(pod, memory_request, machine_memory_bytes),
    }
}

fn cpu_shares(milli: i64) -> i64 {
    if milli == 0 { CPU_SHARES_MIN } else { (milli * 1024 / 1000).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX) }
}

fn oom_score_adj(pod: &Pod, memory_request: i64, machine_memory_bytes: i64) -> i64 {
    match pod::qos_class(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => (1000 - 1000 * memory_request / machine_memory_bytes.max(1)).clamp(3, 999),
    }
}

/// Parses `name=quantity` pairs of a flag.
pub fn parse_list(pairs: &[String]) -> Result<BTreeMap<String, Quantity>, String> {
    pairs
        .iter()
        .map(|pair| {
            let (name, amount) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not name=quantity"))?;
            let quantity = Quantity(amount.to_owned());
            value(&quantity).ok_or_else(|| format!("{amount:?} is not a quantity"))?;
            Ok((name.to_owned(), quantity))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

    use super::*;

    fn list(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, Quantity>> {
        Some(pairs.iter().map(|(name, amount)| (name.to_string(), Quantity(amount.to_string()))).collect())
    }

    fn check(requests: &[(&str, &str)], limits: &[(&str, &str)], qos: &str, expected: Cgroup) {
        let resources = ResourceRequirements { requests: list(requests), limits: list(limits), ..Default::default() };
        let container = Container { resources: Some(resources), ..Default::default() };
        let pod = Pod {
            spec: Some(PodSpec { containers: vec![container.clone()], ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(pod::qos_class(&pod), qos);
        assert_eq!(cgroup(&pod, &container, 10 << 30), expected);
    }

    #[test]
    fn requests_and_limits_become_cgroup_values() {
        let best = Cgroup { cpu_shares: 2, oom_score_adj: 1000, ..Default::default() };
        check(&[], &[], "BestEffort", best);
        check(
            &[("cpu", "100m"), ("memory", "1Gi")],
            &[],
            "Burstable",
            Cgroup { cpu_shares: 102, oom_score_adj: 900, ..Default::default() },
        );
        check(
            &[("cpu", "500m"), ("memory", "64Mi")],
            &[("cpu", "0.5"), ("memory", "65536Ki")],
            "Guaranteed",
            Cgroup { cpu_shares: 512, cpu_quota_micros: 50_000, memory_limit_bytes: 64 << 20, oom_score_adj: -997 },
        );
    }

    #[test]
    fn quantities_are_read_in_every_suffix() {
        for (text, expected) in
            [("1", 1.0), ("100m", 0.1), ("2k", 2000.0), ("1.5Gi", 1.5 * 1024.0 * 1024.0 * 1024.0), ("1e3", 1000.0)]
        {
            assert_eq!(value(&Quantity(text.into())), Some(expected), "{text}");
        }
        assert_eq!(value(&Quantity("x".into())), None);
        assert!(parse_list(&["cpu".into()]).is_err());
    }
}
