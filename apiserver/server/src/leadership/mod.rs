//! Elections over the store, and the fence that every write of a leader carries ("Leadership" in ARCHITECTURE.md).

mod campaign;
mod fence;

pub use campaign::campaign;
#[cfg(test)]
use campaign::Line;
pub use fence::{Fence, valid_name};

#[cfg(test)]
mod tests;
