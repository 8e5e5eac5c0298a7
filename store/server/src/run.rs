//! From flags to a running member.

use tokio_util::sync::CancellationToken;

use crate::Flags;

/// Why a store member could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag is wrong.
    #[error("{0}")]
    Flag(String),
}

/// Runs a member until `stop`.
///
/// # Errors
/// Anything that keeps the member from serving.
pub async fn run(flags: Flags, stop: CancellationToken) -> Result<(), Error> {
    stop.cancelled().await;
    tracing::info!(name = flags.name, "stopped");
    Ok(())
}
