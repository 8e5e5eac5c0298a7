//! The process's only source of randomness, so that a seed replays exactly.
//!
//! std's hash maps, tokio's `select!` and openraft's election timeouts all draw from libc's `getrandom` in the end. An
//! executable's own symbol of that name comes before libc's (std asks for it as a weak symbol for this very purpose), so
//! the threads of a simulation get numbers from the seed, and all others the kernel's.

use std::{cell::RefCell, ffi::c_void, hash::BuildHasher};

use xebec_store_dice::Dice;

thread_local! {
    static SEEDED: RefCell<Option<Dice>> = const { RefCell::new(None) };
}

/// Makes this thread's randomness follow from `seed`. Call it before anything on the thread has drawn any.
///
/// # Panics
/// If the linker let libc's `getrandom` win: nothing would be reproducible.
pub fn seed_this_thread(seed: u64) {
    SEEDED.with(|seeded| *seeded.borrow_mut() = Some(Dice::new(seed)));
    let mut expected = Dice::new(seed);
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is ours and as long as said.
    let filled = unsafe { getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert!(filled == 8 && bytes == expected.next().to_le_bytes(), "getrandom is not the simulator's");
    let before = SEEDED.with(|seeded| seeded.borrow().clone().map(|mut dice| dice.next()));
    std::hint::black_box(std::collections::hash_map::RandomState::new().hash_one(0));
    let after = SEEDED.with(|seeded| seeded.borrow().clone().map(|mut dice| dice.next()));
    assert!(before != after, "std does not draw from the simulator's getrandom, or had drawn before");
}

/// As getrandom(2).
///
/// # Safety
/// `buffer` must have room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: u32) -> isize {
    let seeded = SEEDED.try_with(|seeded| {
        let mut seeded = seeded.borrow_mut();
        let dice = seeded.as_mut()?;
        // SAFETY: the caller vouches for the buffer.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&dice.next().to_le_bytes()[..chunk.len()]);
        }
        Some(length as isize)
    });
    match seeded {
        Ok(Some(filled)) => filled,
        // SAFETY: passes the caller's promise on to the kernel.
        _ => unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize },
    }
}
