//! Plants bugs in the store and the API server on purpose and shows that they are found: in simulations, and by chaos runs with
//! real processes. Both are built apart, with a feature that the product refuses to compile with.

mod build;
mod hunt;
mod show;
mod table;

pub use build::{FEATURES, mutable, simulator};
pub use show::{Extent, run};
