//! Watches as clients see them: frames, selectors, bookmarks, the end of the stream.

mod frame;
mod stream;

pub use frame::{FrameEncoder, Framing, Render, RenderStatus};
pub use stream::{WatchPlan, stream};
