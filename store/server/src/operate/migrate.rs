use std::fs;

use clap::Args;
use tonic::Code;

use super::{
    ClientFlags, OperateError, RestoreFlags, blocking, copy, io_error, restore, restore::NewMemberFlags, save,
};

/// `xebec store migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateFlags {
    /// Client URLs of the etcd or Xebec to take over from, comma-separated.
    #[arg(long, value_delimiter = ',', required = true)]
    pub from: Vec<String>,
    /// Copies what a client can read, key by key, in place of a snapshot: for sources that give none away. Keys keep their
    /// revisions and leases; history, users and roles are left behind.
    #[arg(long)]
    pub without_history: bool,
    /// With --without-history, copies only keys that begin so.
    #[arg(long, default_value = "", requires = "without_history")]
    pub prefix: String,
    #[command(flatten)]
    pub client: SourceFlags,
    #[command(flatten)]
    pub member: NewMemberFlags,
}

/// How to reach the source.
#[derive(Debug, Clone, Args)]
pub struct SourceFlags {
    /// Authorities that the source's certificates must come from (PEM).
    #[arg(long)]
    pub cacert: Option<std::path::PathBuf>,
    /// Client certificate (PEM).
    #[arg(long)]
    pub cert: Option<std::path::PathBuf>,
    /// Its key.
    #[arg(long)]
    pub key: Option<std::path::PathBuf>,
    /// User, or user:password, where authentication is on.
    #[arg(long)]
    pub user: Option<String>,
    /// The user's password.
    #[arg(long)]
    pub password: Option<String>,
    /// Seconds to wait for a connection.
    #[arg(long, default_value_t = 5)]
    pub dial_timeout: u64,
}

/// What is added when a source refuses to give a snapshot away.
fn with_advice(error: OperateError) -> OperateError {
    match error {
        OperateError::Refused { endpoint, status }
            if matches!(status.code(), Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated) =>
        {
            OperateError::NoSnapshot { endpoint, status }
        }
        error => error,
    }
}

/// Takes a snapshot of the source and makes a member from it: keys, revisions, history, leases, users and roles as they
/// were at that moment. The snapshot lies beside the data directory meanwhile.
pub(super) async fn migrate(flags: MigrateFlags) -> Result<(), OperateError> {
    let MigrateFlags { from, without_history, prefix, client, member } = flags;
    let SourceFlags { cacert, cert, key, user, password, dial_timeout } = client;
    let client = ClientFlags { endpoints: from, cacert, cert, key, user, password, dial_timeout };
    if without_history {
        return copy::copy(&client, member, &prefix).await;
    }
    let data_dir = member.data_dir.clone().unwrap_or_else(|| format!("{}.etcd", member.name).into());
    let snapshot = data_dir.with_added_extension("migrate");
    let version = save::download(&snapshot, &client).await.map_err(with_advice)?;
    let source = if version.is_empty() { "before 3.6".to_owned() } else { version };
    println!("Took a snapshot of {} (storage version {source})", client.endpoints.join(","));
    let restore = RestoreFlags {
        file: snapshot.clone(),
        member,
        bump_revision: 0,
        mark_compacted: false,
        skip_hash_check: false,
    };
    let restored = blocking(move || restore::restore(&restore)).await;
    fs::remove_file(&snapshot).map_err(io_error(&snapshot))?;
    restored
}
