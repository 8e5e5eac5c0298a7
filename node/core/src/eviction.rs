//! When a node counts as short of memory or disk: the thresholds of `--eviction-hard`
//! (kubernetes `pkg/kubelet/eviction/defaults_linux.go` has the same defaults and syntax).

use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::resources;

/// How much must be free.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// A part of what there is, in percent.
    Percent(f64),
    /// An amount, in bytes.
    Bytes(f64),
}

impl Threshold {
    /// Whether so little is free that the threshold is crossed. A size of 0 means that nothing is known.
    #[must_use]
    pub fn is_crossed(self, free_bytes: u64, size_bytes: u64) -> bool {
        #[allow(clippy::cast_precision_loss)] // Thresholds are coarse; a petabyte is still exact to the byte.
        let (free, size) = (free_bytes as f64, size_bytes as f64);
        size_bytes > 0
            && match self {
                Self::Percent(percent) => free * 100.0 < size * percent,
                Self::Bytes(bytes) => free < bytes,
            }
    }
}

/// The thresholds of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Of memory (`memory.available`).
    pub memory_available: Threshold,
    /// Of the file system under the data directory (`nodefs.available`).
    pub nodefs_available: Threshold,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { memory_available: Threshold::Bytes(f64::from(100 << 20)), nodefs_available: Threshold::Percent(10.0) }
    }
}

impl FromStr for Thresholds {
    type Err = String;

    /// Reads `memory.available<100Mi,nodefs.available<10%`; what is not named keeps its default.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut thresholds = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (signal, amount) =
                part.split_once('<').ok_or_else(|| format!("{part:?} is not of the form signal<amount"))?;
            let threshold = parse_amount(amount)?;
            match signal {
                "memory.available" => thresholds.memory_available = threshold,
                "nodefs.available" => thresholds.nodefs_available = threshold,
                _ => return Err(format!("{signal:?} is not known; memory.available and nodefs.available are")),
            }
        }
        Ok(thresholds)
    }
}

fn parse_amount(text: &str) -> Result<Threshold, String> {
    let invalid = || format!("{text:?} is neither a percentage nor a quantity");
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse().map_err(|_| invalid())?;
        return if (0.0..=100.0).contains(&percent) { Ok(Threshold::Percent(percent)) } else { Err(invalid()) };
    }
    let bytes = resources::value(&Quantity(text.to_owned())).filter(|bytes| *bytes >= 0.0).ok_or_else(invalid)?;
    Ok(Threshold::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::{Threshold, Thresholds};

    #[test]
    fn signals_are_read_and_the_rest_keeps_its_default() {
        let read: Thresholds = "nodefs.available<1Gi".parse().unwrap();
        assert_eq!(read.nodefs_available, Threshold::Bytes(1_073_741_824.0));
        assert_eq!(read.memory_available, Thresholds::default().memory_available);
        for wrong in
            ["nodefs.available", "nodefs.available<a", "nodefs.available<101%", "imagefs.available<1Gi", "a<-1"]
        {
            wrong.parse::<Thresholds>().expect_err(wrong);
        }
    }

    #[test]
    fn a_threshold_is_crossed_from_below_only() {
        assert!(Threshold::Percent(10.0).is_crossed(9, 100));
        assert!(!Threshold::Percent(10.0).is_crossed(10, 100));
        assert!(Threshold::Bytes(10.0).is_crossed(9, 100));
        assert!(!Threshold::Bytes(10.0).is_crossed(0, 0), "an unknown disk is not a full one");
    }
}
