//! The operator's commands: `xebec store snapshot | migrate | check`.

mod check;
mod client;
mod copy;
mod migrate;
mod restore;
mod save;
mod snapshot_status;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::Flags;

pub use check::CheckFlags;
pub use client::ClientFlags;
pub use migrate::MigrateFlags;
pub use restore::RestoreFlags;
pub(crate) use restore::{NewMemberFlags, restore};

/// `xebec store`: runs a member with etcd's flags, or does one of the operator's commands.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct StoreCommand {
    #[command(subcommand)]
    operation: Option<Operation>,
    #[command(flatten)]
    flags: Flags,
}

/// What an operator does with a store, or with its data.
#[derive(Debug, Clone, Subcommand)]
pub enum Operation {
    /// Saves, inspects and restores snapshots; files are those of etcdctl and etcdutl, in both directions
    #[command(subcommand)]
    Snapshot(SnapshotOperation),
    /// Makes a member's data directory from a live etcd or Xebec
    Migrate(MigrateFlags),
    /// Verifies the data directory of a member that is not running
    Check(CheckFlags),
}

/// `xebec store snapshot`.
#[derive(Debug, Clone, Subcommand)]
pub enum SnapshotOperation {
    /// Saves a snapshot of a running member
    Save {
        /// Where to.
        file: PathBuf,
        #[command(flatten)]
        client: ClientFlags,
    },
    /// Checks a snapshot's file, every page of it, and says what is in it
    Status {
        /// The snapshot.
        file: PathBuf,
        /// How to say it.
        #[arg(short = 'w', long, default_value = "table")]
        write_out: WriteOut,
    },
    /// Makes a new cluster's member from a snapshot of Xebec or of etcd
    Restore(RestoreFlags),
}

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WriteOut {
    /// One line, comma-separated.
    Simple,
    /// etcd's field names.
    Json,
    /// For people.
    Table,
}

/// Why an operator's command failed. The text says everything; the exit code is 1.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The member could not run.
    #[error(transparent)]
    Run(#[from] crate::Error),
    /// A snapshot cannot be read or made.
    #[error(transparent)]
    Snapshot(#[from] xebec_store_snapshot::SnapshotError),
    /// A data directory cannot be made.
    #[error(transparent)]
    Seed(#[from] xebec_store_raft::SeedError),
    /// A keyspace cannot be read or filled.
    #[error(transparent)]
    Keyspace(#[from] xebec_store_disk::DiskError),
    /// A member refused.
    #[error("{}: {}", endpoint, status.message())]
    Refused {
        /// Which.
        endpoint: String,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// A source gives no snapshot away.
    #[error(
        "{endpoint} gives no snapshot away: {} (an administrator may ask for one; with --without-history, what can be read is copied key by key: revisions and leases of living keys are kept, history, users and roles are not)",
        status.message()
    )]
    NoSnapshot {
        /// Which.
        endpoint: String,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// Certificates cannot be used.
    #[error("certificates: {0}")]
    Certificates(#[from] xebec_pki::Error),
    /// Damage was found; all of it is printed.
    #[error("{0} problems found")]
    Damaged(usize),
    /// Anything else that needs no more than words.
    #[error("{0}")]
    Plain(String),
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn io_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> OperateError {
    let path = path.to_owned();
    move |source| OperateError::Io { path, source }
}

/// Runs a member until `stop`, or one command until it is done.
///
/// # Errors
/// [`OperateError`].
pub async fn command(command: StoreCommand, stop: CancellationToken) -> Result<(), OperateError> {
    let Some(operation) = command.operation else {
        return Ok(crate::run(command.flags, stop).await?);
    };
    // A command that is stopped leaves nothing that counts.
    tokio::select! {
        () = stop.cancelled() => Err(OperateError::Plain("stopped".to_owned())),
        outcome = operate(operation) => outcome,
    }
}

async fn operate(operation: Operation) -> Result<(), OperateError> {
    match operation {
        Operation::Snapshot(SnapshotOperation::Save { file, client }) => save::save(&file, &client).await,
        Operation::Snapshot(SnapshotOperation::Status { file, write_out }) => {
            blocking(move || snapshot_status::print(&file, write_out)).await
        }
        Operation::Snapshot(SnapshotOperation::Restore(flags)) => blocking(move || restore::restore(&flags)).await,
        Operation::Migrate(flags) => migrate::migrate(flags).await,
        Operation::Check(flags) => blocking(move || check::check(&flags)).await,
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), OperateError> + Send + 'static) -> Result<(), OperateError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| OperateError::Plain(error.to_string()))?
}
