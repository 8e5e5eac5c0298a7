//! Where blocking work runs.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{self, JoinError},
};

/// Runs work that may wait for the disk where it holds up nobody. A runtime of one thread, as the simulator gives each
/// member, has no such place: there it runs at once, so that a seed replays exactly.
///
/// # Errors
/// If the work panicked, or the runtime shuts down.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    task::spawn_blocking(work).await
}
