//! What is planted in this process.

use crate::PlantedBug;

/// The environment variable that names the bug of a process that was built to have one.
pub const VARIABLE: &str = "XEBEC_PLANTED_BUG";

/// Whether this build can plant bugs at all.
pub const BUGS_CAN_BE_PLANTED: bool = cfg!(feature = "planted-bugs");

#[cfg(feature = "planted-bugs")]
static PLANTED: std::sync::OnceLock<PlantedBug> = std::sync::OnceLock::new();

/// Plants a bug in this process, before anything else happens in it; only the first one counts.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: PlantedBug) {
    PLANTED.get_or_init(|| bug);
}

/// Whether this bug is planted here.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is_planted(bug: PlantedBug) -> bool {
    PLANTED.get() == Some(&bug)
}

/// Never: this build has no bugs to plant.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
pub const fn is_planted(_bug: PlantedBug) -> bool {
    false
}
