//! The component's entry.

use tokio_util::sync::CancellationToken;

use crate::Flags;

/// Why the node agent ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag cannot be used as given.
    #[error("--{flag}: {reason}")]
    Flag {
        /// The flag, without dashes.
        flag: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Runs the node agent until `stop` is cancelled. No container is touched when it ends.
pub async fn run(flags: Flags, stop: CancellationToken) -> Result<(), Error> {
    if flags.servers.is_empty() && flags.kubeconfig.is_none() {
        return Err(Error::Flag { flag: "server", reason: "give --server or --kubeconfig".into() });
    }
    stop.cancelled().await;
    Ok(())
}
