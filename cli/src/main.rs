//! `xebec`: every component of the cluster in one binary.

/// glibc's allocator took a fifth of the store's processor time under load, and kept what it had freed; jemalloc serves
/// RocksDB too (ADR 0011).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The bugs that simulations and chaos runs plant are in no binary that people run.
const _: () = assert!(!xebec_planted::BUGS_CAN_BE_PLANTED, "built with the feature planted-bugs");

fn main() {
    xebec_cli::main();
}
