//! `xebec` with the bug that `XEBEC_PLANTED_BUG` names, for chaos runs to find; without that variable it is `xebec` and nothing
//! else. `cargo xtask mutations` builds it.

use xebec_planted::{PlantedBug, VARIABLE, plant};

/// As in `xebec`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    if let Ok(name) = std::env::var(VARIABLE) {
        let Some(bug) = PlantedBug::named(&name) else {
            eprintln!("no such bug: {name}");
            std::process::exit(2);
        };
        eprintln!("{name} is planted in this process");
        plant(bug);
    }
    xebec_cli::main();
}
