//! The reference cluster: hosts as network namespaces on one bridge, real processes, real containers; and, on top of it,
//! the faults and checks that show what the control plane survives.

pub mod cluster;
pub mod images;
pub mod kubectl;
pub mod preflight;
pub mod process;
pub mod progress;
pub mod shell;
