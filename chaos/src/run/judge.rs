//! From a run's history to verdicts and report.

use std::{
    fs::{self, File},
    io::BufReader,
    path::Path,
};

use anyhow::{Context as _, Result};
use xebec_chaos_core::{checks::check_all, history, report, verdict::Verdict};

/// Reads `history.jsonl` in a run's folder, judges it, and leaves `report.html` and `verdicts.json` beside it.
///
/// # Errors
/// The history cannot be read or the results not be written.
pub(super) fn judge(folder: &Path) -> Result<Vec<Verdict>> {
    let path = folder.join("history.jsonl");
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let history =
        history::read(BufReader::new(file)).with_context(|| format!("{} is not a history", path.display()))?;
    let verdicts = check_all(&history);
    fs::write(folder.join("report.html"), report::render(&history, &verdicts)).context("cannot write the report")?;
    fs::write(folder.join("verdicts.json"), serde_json::to_vec_pretty(&verdicts)?)
        .context("cannot write the verdicts")?;
    Ok(verdicts)
}
