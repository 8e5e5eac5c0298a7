//! Elections over the store, and the fence that every write of a leader carries ("Leadership" in ARCHITECTURE.md).

mod campaign;
mod fence;

#[cfg(test)]
use campaign::Line;
pub use campaign::campaign;
pub use fence::{Fence, valid_name};

#[cfg(test)]
mod tests;
