//! Which code an input reaches, in builds that count it.
//!
//! `cargo xtask fuzz` compiles the workspace's crates with LLVM's coverage counters (`-C passes=sancov-module`, which
//! stable Rust takes): one byte for every edge. Such modules call [`__sanitizer_cov_8bit_counters_init`] before `main`.
//! In other builds there are no counters, and inputs are judged by what the target answers alone.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Places where counters lie, one for each object that is linked or loaded.
const REGIONS_MAX: usize = 8;
static STARTS: [AtomicUsize; REGIONS_MAX] = [const { AtomicUsize::new(0) }; REGIONS_MAX];
static ENDS: [AtomicUsize; REGIONS_MAX] = [const { AtomicUsize::new(0) }; REGIONS_MAX];

/// LLVM's hook (SanitizerCoverage, inline 8-bit counters). All modules of one object name the same region.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    for (known, ends) in STARTS.iter().zip(&ENDS) {
        match known.load(Ordering::Relaxed) {
            0 => {
                known.store(start as usize, Ordering::Relaxed);
                ends.store(end as usize, Ordering::Relaxed);
                return;
            }
            at if at == start as usize => return,
            _ => {}
        }
    }
}

/// What all inputs so far have reached.
#[derive(Debug, Default)]
pub struct Coverage {
    /// For each counter the classes of counts that were seen, one bit each.
    seen: Vec<Vec<u8>>,
    reached: usize,
}

/// Counts fall into classes, so that a loop that runs once more is no news (as in AFL).
fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        _ => 128,
    }
}

fn regions() -> impl Iterator<Item = &'static mut [u8]> {
    let bounds = STARTS.iter().zip(&ENDS).map(|(s, e)| (s.load(Ordering::Relaxed), e.load(Ordering::Relaxed)));
    bounds.filter(|(start, end)| *start != 0 && end > start).map(|(start, end)| {
        // SAFETY: the linker laid these bytes out for counters, they live as long as the program, and nobody else makes
        // references to them. Code on other threads adds to them at the same time, which may lose a count: no harm.
        unsafe { std::slice::from_raw_parts_mut(start as *mut u8, end - start) }
    })
}

/// How many counters there are; none in an ordinary build.
#[must_use]
pub fn counters() -> usize {
    regions().map(|region| region.len()).sum()
}

/// Forgets what was counted.
pub fn reset() {
    regions().for_each(|region| region.fill(0));
}

impl Coverage {
    /// Takes in what was counted since [`reset`]: true if something was reached for the first time, or in another class of
    /// frequency.
    pub fn absorb(&mut self) -> bool {
        let mut is_news = false;
        for (place, region) in regions().enumerate() {
            if self.seen.len() <= place {
                self.seen.push(vec![0; region.len()]);
            }
            let seen = &mut self.seen[place];
            for (counts, known) in region.chunks(8).zip(seen.chunks_mut(8)) {
                if counts.iter().all(|count| *count == 0) {
                    continue;
                }
                for (count, known) in counts.iter().zip(known) {
                    let class = class(*count);
                    if class & !*known != 0 {
                        self.reached += usize::from(*known == 0);
                        *known |= class;
                        is_news = true;
                    }
                }
            }
        }
        is_news
    }

    /// Edges that were reached.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.reached
    }
}
