//! Applies the rules of [`xebec_node_core::egress`].

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

/// Attempts, and the pause between them; the kernel's module may have to load first.
const ATTEMPTS_MAX: u32 = 10;
const RETRY: Duration = Duration::from_secs(1);

/// Hands `ruleset` to `nft` in one transaction.
pub(crate) async fn apply(ruleset: String) {
    for attempt in 1..=ATTEMPTS_MAX {
        match transact(&ruleset).await {
            Ok(()) => return,
            Err(error) if attempt == ATTEMPTS_MAX => {
                tracing::error!(%error, "pods cannot reach addresses outside of the pod network");
            }
            Err(error) => {
                tracing::warn!(%error, "masquerading not set up, will try again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn transact(ruleset: &str) -> std::io::Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn()?;
    if let Some(mut input) = process.stdin.take() {
        input.write_all(ruleset.as_bytes()).await?;
    }
    let output = process.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
