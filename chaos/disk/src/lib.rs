//! A disk that loses power: a FUSE file system for a member's data directory. What was written lies before it in full; what survives
//! [`Disk::power_loss`] is what was synced. It can also be slow, full, or fail to sync.
//!
//! With [`Names::Strict`] the strictest reading of POSIX holds: `fsync` of a file saves its bytes and its length, and nothing else; a name is saved by
//! `fsync` of its directory, and a rename that touches two directories is saved with the first of them, whole. Permissions and
//! times are kept always. Real file systems keep more than that; a program that survives here survives there.

mod conditions;
mod content;
mod disk;
mod filesystem;
mod state;
mod tree;

pub use conditions::Conditions;
pub use disk::{Disk, Loss, Names, sweep};
