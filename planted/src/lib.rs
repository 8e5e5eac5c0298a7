//! Known bugs that simulations and chaos runs plant in the store and the API server, to see that they are found.
//!
//! A crate of its own, since the API server may not depend on the store, both live in one process (`xebec master`), and that
//! process has one bug: so there is one list, one feature and one place that remembers what was planted. The crate knows nobody.
//! Without the feature `planted-bugs`, which nothing that is shipped may enable, [`is_planted`] is a constant `false` and all of
//! it comes to nothing.

mod bug;
mod plant;

pub use bug::PlantedBug;
#[cfg(feature = "planted-bugs")]
pub use plant::plant;
pub use plant::{BUGS_CAN_BE_PLANTED, VARIABLE, is_planted};
