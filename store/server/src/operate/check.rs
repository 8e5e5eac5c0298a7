use std::path::PathBuf;

use clap::Args;
use xebec_store_raft::check_data;

use super::OperateError;

/// `xebec store check`.
#[derive(Debug, Clone, Args)]
pub struct CheckFlags {
    /// The member's data directory. The member must not be running.
    #[arg(long)]
    pub data_dir: PathBuf,
}

/// Verifies a data directory; changes nothing in it. The first problem of each part is printed with its file and
/// offset.
pub(super) fn check(flags: &CheckFlags) -> Result<(), OperateError> {
    let report = check_data(&flags.data_dir);
    for line in &report.sound {
        println!("{line}");
    }
    for problem in &report.problems {
        eprintln!("{problem}");
    }
    if report.problems.is_empty() { Ok(()) } else { Err(OperateError::Damaged(report.problems.len())) }
}
