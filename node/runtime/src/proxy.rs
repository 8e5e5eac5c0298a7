//! The service proxy: keeps the node's nftables table in step with Services and EndpointSlices.
//!
//! Fail-static: when the agent ends, or every master is gone, the table stays as it is.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xebec_client::cache::Cache;
use xebec_node_core::proxy::{self as rules, Options, Ruleset, ServicePort, UdpTarget};

/// Changes that come this close together make one transaction.
const SETTLE: Duration = Duration::from_millis(20);
/// No change waits longer than this, however many follow it.
const SETTLE_MAX: Duration = Duration::from_millis(200);
/// First and longest pause after a failed transaction.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long `nft` or `conntrack` may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// UDP flows forgotten per change; beyond it all UDP flows time out by themselves.
const FORGET_MAX: usize = 256;

/// Why the proxy cannot change the node's rules.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `nft` cannot be run.
    #[error("cannot run {command}: {source}")]
    Run {
        /// The command.
        command: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ran and failed.
    #[error("{command} failed: {message}")]
    Failed {
        /// The command.
        command: &'static str,
        /// Its first line of complaint.
        message: String,
    },
    /// It did not end in time.
    #[error("{command} did not end in time")]
    Timeout {
        /// The command.
        command: &'static str,
    },
}

/// Runs the proxy until `stop`. Failures are logged and retried; the rules stay when it ends.
pub async fn run(options: Options, services: Cache<Service>, slices: Cache<EndpointSlice>, stop: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    services.on_change(move |_| wake.notify_one());
    let wake = changed.clone();
    slices.on_change(move |_| wake.notify_one());
    tokio::select! {
        () = stop.cancelled() => return,
        // Rules from half a cluster would cut off the other half.
        _ = futures::future::join(services.synced(), slices.synced()) => {}
    }
    let mut applied = Applied::default();
    let mut pause = RETRY_MIN;
    loop {
        let services = services.list();
        let slices = slices.list();
        let ports =
            rules::service_ports(&options, services.iter().map(AsRef::as_ref), slices.iter().map(AsRef::as_ref));
        let ruleset = rules::render(&options, &ports);
        let retry = match applied.bring_to(ruleset, ports).await {
            Ok(()) => {
                pause = RETRY_MIN;
                None
            }
            Err(error) => {
                tracing::error!(%error, ?pause, "service rules not applied, retrying");
                let retry = pause;
                pause = (pause * 2).min(RETRY_MAX);
                Some(retry)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {}
            () = tokio::time::sleep(retry.unwrap_or(Duration::MAX)), if retry.is_some() => {}
        }
        let first = Instant::now();
        while first.elapsed() < SETTLE_MAX && tokio::time::timeout(SETTLE, changed.notified()).await.is_ok() {}
    }
}

/// Removes the table. Only on request: an agent that merely ends leaves it.
pub async fn clean_up() -> Result<(), Error> {
    command("nft", &["-f", "-"], Ruleset::removal().as_bytes()).await
}

/// What was last applied.
#[derive(Default)]
struct Applied {
    ruleset: Option<Ruleset>,
    ports: Vec<ServicePort>,
}

impl Applied {
    async fn bring_to(&mut self, ruleset: Ruleset, ports: Vec<ServicePort>) -> Result<(), Error> {
        if self.ruleset.as_ref() == Some(&ruleset) {
            return Ok(());
        }
        let transaction = ruleset.transaction(self.ruleset.as_ref());
        if let Err(error) = command("nft", &["-f", "-"], transaction.as_bytes()).await {
            // Somebody may have touched the table: the next attempt replaces all of it.
            self.ruleset = None;
            return Err(error);
        }
        tracing::debug!(ports = ports.len(), "service rules applied");
        forget_flows(rules::stale_udp(&self.ports, &ports)).await;
        self.ruleset = Some(ruleset);
        self.ports = ports;
        Ok(())
    }
}

/// Makes connection tracking forget UDP flows to endpoints that are gone. Without `conntrack` they time out by themselves.
async fn forget_flows(targets: BTreeSet<UdpTarget>) {
    for target in targets.iter().take(FORGET_MAX) {
        let (port, address) = (target.port.to_string(), target.address.map(|address| address.to_string()));
        let endpoint = target.endpoint.map(|endpoint| endpoint.to_string());
        let mut arguments = vec!["-D", "-p", "udp", "--orig-port-dst", &port];
        if let Some(address) = &address {
            arguments.extend(["--orig-dst", address]);
        }
        if let Some(endpoint) = &endpoint {
            arguments.extend(["--dst-nat", endpoint]);
        }
        match command("conntrack", &arguments, &[]).await {
            Err(Error::Run { .. }) => return,
            // It also fails when there was nothing to delete.
            Ok(()) | Err(Error::Failed { .. }) => {}
            Err(error) => return tracing::debug!(%error, "flows not forgotten"),
        }
    }
}

async fn command(name: &'static str, arguments: &[&str], input: &[u8]) -> Result<(), Error> {
    let run = |source| Error::Run { command: name, source };
    let mut child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(run)?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input).await {
                // It has complained already, and says why below.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
                written => written.map_err(run)?,
            }
        }
        child.wait_with_output().await.map_err(run)
    };
    let output = tokio::time::timeout(COMMAND_TIMEOUT, work).await.map_err(|_| Error::Timeout { command: name })??;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
    Err(Error::Failed { command: name, message })
}
