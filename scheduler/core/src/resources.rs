//! Amounts of resources, in integers: exact sums, no rounding in a node's favour.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// CPU a container without a request counts as when nodes are scored, in thousandths (upstream `DefaultMilliCPURequest`).
const DEFAULT_MILLI_CPU: i64 = 100;
/// Memory likewise, in bytes (upstream `DefaultMemoryRequest`).
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// An amount of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU in thousandths.
    pub milli_cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Ephemeral storage in bytes.
    pub ephemeral_storage: i64,
    /// Pods.
    pub pods: i64,
    /// Everything else, such as huge pages and devices, in whole units.
    pub scalar: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a resource list.
    pub fn from_list(list: &BTreeMap<String, Quantity>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity_milli(&quantity.0),
                "memory" => resources.memory = quantity_units(&quantity.0),
                "ephemeral-storage" => resources.ephemeral_storage = quantity_units(&quantity.0),
                "pods" => resources.pods = quantity_units(&quantity.0),
                _ => {
                    resources.scalar.insert(name.clone(), quantity_units(&quantity.0));
                }
            }
        }
        resources
    }

    /// Adds `other`, saturating.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
        self.scalar.retain(|_, amount| *amount != 0);
    }

    /// Raises each amount to at least `other`'s.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, how: fn(i64, i64) -> i64) {
        self.milli_cpu = how(self.milli_cpu, other.milli_cpu);
        self.memory = how(self.memory, other.memory);
        self.ephemeral_storage = how(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = how(self.pods, other.pods);
        for (name, amount) in &other.scalar {
            let mine = self.scalar.entry(name.clone()).or_insert(0);
            *mine = how(*mine, *amount);
        }
    }

    /// The names of what is missing when `used` and `wanted` share this; each with its upstream reason.
    pub(crate) fn shortages(&self, used: &Self, wanted: &Self) -> Vec<String> {
        let mut missing = Vec::new();
        if used.pods.saturating_add(1) > self.pods {
            missing.push("Too many pods".to_owned());
        }
        let mut check = |name: &str, has: i64, used: i64, wants: i64| {
            // A pod that wants none of a resource fits even where it is overcommitted (upstream `fitsRequest`).
            if wants > 0 && wants > has.saturating_sub(used) {
                missing.push(format!("Insufficient {name}"));
            }
        };
        check("cpu", self.milli_cpu, used.milli_cpu, wanted.milli_cpu);
        check("memory", self.memory, used.memory, wanted.memory);
        check("ephemeral-storage", self.ephemeral_storage, used.ephemeral_storage, wanted.ephemeral_storage);
        for (name, wants) in &wanted.scalar {
            let of = |list: &BTreeMap<String, i64>| list.get(name).copied().unwrap_or(0);
            check(name, of(&self.scalar), of(&used.scalar), *wants);
        }
        missing
    }
}

/// What a pod occupies: the larger of its running containers and its greediest initialization, plus overhead
/// (upstream `k8s.io/component-helpers/resource.PodRequests`; sidecars as in KEP-753).
pub(crate) fn pod_requests(spec: &PodSpec) -> Resources {
    let mut total = effective(spec, container_requests);
    if let Some(list) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        // Pod-level requests (KEP-2837) stand in place of the containers' sums.
        let level = Resources::from_list(list);
        total.milli_cpu = if list.contains_key("cpu") { level.milli_cpu } else { total.milli_cpu };
        total.memory = if list.contains_key("memory") { level.memory } else { total.memory };
    }
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::from_list(overhead));
    }
    total.pods = 0;
    total
}

/// CPU and memory as scoring counts them: containers without requests count as small ones
/// (upstream `GetNonzeroRequests`).
pub(crate) fn scored_requests(spec: &PodSpec) -> (i64, i64) {
    let total = effective(spec, |container| {
        let mut requests = container_requests(container);
        requests.milli_cpu = if requests.milli_cpu == 0 { DEFAULT_MILLI_CPU } else { requests.milli_cpu };
        requests.memory = if requests.memory == 0 { DEFAULT_MEMORY_BYTES } else { requests.memory };
        requests
    });
    (total.milli_cpu, total.memory)
}

fn effective(spec: &PodSpec, requests: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    spec.containers.iter().for_each(|container| running.add(&requests(container)));
    let (mut sidecars, mut initializing) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let mut step = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&step);
            sidecars.add(&step);
            step = sidecars.clone();
        } else {
            step.add(&sidecars);
        }
        initializing.raise_to(&step);
    }
    running.raise_to(&initializing);
    running
}

fn container_requests(container: &Container) -> Resources {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests.map(Resources::from_list).unwrap_or_default()
}

/// A quantity in thousandths, rounded up; 0 for what is none.
pub fn quantity_milli(text: &str) -> i64 {
    scaled(text, 3)
}

/// A quantity in whole units, rounded up; 0 for what is none.
pub fn quantity_units(text: &str) -> i64 {
    scaled(text, 0)
}

/// `text` times ten to the `power`, rounded away from zero, saturating (apimachinery `resource.Quantity.ScaledValue`).
fn scaled(text: &str, power: i32) -> i64 {
    parse(text, power).unwrap_or(0)
}

fn parse(text: &str, power: i32) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Beyond 20 digits of either part nothing distinguishes valid quantities.
    let digits: i128 = format!("0{whole}{}", fraction.get(..20.min(fraction.len()))?).parse().ok()?;
    let mut exponent = power - i32::try_from(fraction.len().min(20)).ok()?;
    let mut factor: i128 = 1;
    match suffix {
        "Ki" => factor = 1 << 10,
        "Mi" => factor = 1 << 20,
        "Gi" => factor = 1 << 30,
        "Ti" => factor = 1 << 40,
        "Pi" => factor = 1 << 50,
        "Ei" => factor = 1 << 60,
        decimal => exponent += decimal_exponent(decimal)?,
    }
    let product = digits.checked_mul(factor).unwrap_or(i128::MAX);
    let magnitude = if exponent >= 0 {
        10_i128.checked_pow(exponent.unsigned_abs()).and_then(|scale| product.checked_mul(scale)).unwrap_or(i128::MAX)
    } else {
        10_i128
            .checked_pow(exponent.unsigned_abs())
            .map_or(i128::from(product > 0), |scale| product / scale + i128::from(product % scale != 0))
    };
    let magnitude = i64::try_from(magnitude).unwrap_or(i64::MAX);
    Some(if negative { -magnitude } else { magnitude })
}

fn decimal_exponent(suffix: &str) -> Option<i32> {
    Some(match suffix {
        "" => 0,
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        other => other.strip_prefix(['e', 'E'])?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_exactly_and_rounded_up() {
        for (text, milli, units) in [
            ("1", 1_000, 1),
            ("100m", 100, 1),
            ("1.5", 1_500, 2),
            ("0.5Gi", 536_870_912_000, 536_870_912),
            ("1e3", 1_000_000, 1_000),
            ("12E", i64::MAX, i64::MAX),
            ("1Ki", 1_024_000, 1_024),
            ("1n", 1, 1),
            ("", 0, 0),
            ("x", 0, 0),
            ("-1", -1_000, -1),
        ] {
            assert_eq!((quantity_milli(text), quantity_units(text)), (milli, units), "{text}");
        }
    }

    #[test]
    fn initialization_counts_by_its_maximum_and_sidecars_add_up() {
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m"}}}, {"name": "b", "resources": {"requests": {"cpu": "200m"}}}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "400m"}}},
            ],
            "overhead": {"cpu": "10m"},
        }))
        .unwrap();
        assert_eq!(pod_requests(&spec).milli_cpu, 460, "50 + 400 while initializing, 350 running, 10 overhead");
        assert_eq!(scored_requests(&spec), (450, 600 * 1024 * 1024));
    }
}
