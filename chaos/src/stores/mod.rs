//! Stores under test: three members started by the run, ours or stock etcd's, or any that run elsewhere.

mod claim;
mod cluster;
mod hosts;
mod member;

use claim::Claim;
pub use cluster::{Making, Program, StoreCluster};
pub use hosts::Hosts;
pub use member::Member;
