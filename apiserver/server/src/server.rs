//! Starting and stopping.

use crate::{Error, Flags};
use tokio_util::sync::CancellationToken;

/// Serves until `stop`.
pub async fn run(_flags: Flags, stop: CancellationToken) -> Result<(), Error> {
    stop.cancelled().await;
    Ok(())
}
