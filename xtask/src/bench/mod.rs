//! Measurements.

mod cluster;
mod machine;
pub mod store;

pub use cluster::cluster;
