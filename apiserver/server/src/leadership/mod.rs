//! Elections over the store, and the fence that every write of a leader carries ("Leadership" in ARCHITECTURE.md).

mod campaign;
mod fence;

pub use campaign::{Line, campaign};
pub use fence::Fence;
