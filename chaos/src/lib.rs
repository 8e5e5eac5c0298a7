//! The reference cluster: hosts as network namespaces on one bridge, real processes, real containers; and, on top of it,
//! the faults and checks that show what the control plane survives.

pub mod api;
pub mod cluster;
mod delay;
pub mod etcd;
pub mod faults;
pub mod images;
pub mod kubectl;
pub mod measure;
pub mod plane;
pub mod preflight;
pub mod process;
pub mod progress;
pub mod run;
pub mod shell;
pub mod stores;
pub mod workload;
pub mod workloads;
