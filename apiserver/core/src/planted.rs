//! Known bugs of the API server that chaos runs plant to see that they find them, as `store/core` has its own. Without the
//! feature `planted-bugs`, which nothing that is shipped may enable, all of it comes to nothing.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A pod is bound without a look whether it is bound already.
    ForgetBindingPrecondition,
    /// A write is committed without the condition that the leadership it carries still stands.
    ForgetFence,
}

impl PlantedBug {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ForgetBindingPrecondition, Self::ForgetFence];

    /// What it is called on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ForgetBindingPrecondition => "forget-binding-precondition",
            Self::ForgetFence => "forget-fence",
        }
    }

    /// The bug of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

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
