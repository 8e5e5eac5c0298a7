//! The control plane under test: a cluster, ordinary clients of its API, informers that watch what becomes of it all.

mod ending;
mod facts;
mod informer;
mod kinds;
mod leaders;
mod recovery;
mod target;
mod workloads;
mod world;

pub use ending::end;
pub use informer::watch_all;
pub use kinds::{KINDS, Kind};
pub use leaders::{Loops, observe_loops};
pub use recovery::measure_recovery;
pub use target::{Choice, Target};
pub use workloads::{PLANE_WORKLOADS, PlaneWorkload, Stage, find};
pub use world::World;
