//! Measurements.

use anyhow::Result;

/// Measures the reference cluster.
pub fn cluster() -> Result<()> {
    anyhow::bail!("not written")
}
