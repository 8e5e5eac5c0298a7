//! From a run's history to verdicts and report.

use std::{
    fs::{self, File},
    io::BufReader,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use xebec_chaos_core::{
    checks::check_all,
    history,
    report::{self, Figures, Spread, spreads},
    verdict::Verdict,
};

/// What a run comes to; `verdicts.json` is this.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// Each checker's judgement.
    pub(super) verdicts: Vec<Verdict>,
    /// Gaps and recoveries by kind of fault, in nanoseconds.
    pub(super) figures: Vec<Spread>,
    /// Faults of the run.
    pub(super) faults: usize,
    /// Everything forbidden that was seen.
    pub(super) violations: usize,
}

/// Reads `history.jsonl` in a run's folder, judges it, and leaves `report.html` and `verdicts.json` beside it.
///
/// # Errors
/// The history cannot be read or the results not be written.
pub(super) fn judge(folder: &Path) -> Result<Results> {
    let path = folder.join("history.jsonl");
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let history =
        history::read(BufReader::new(file)).with_context(|| format!("{} is not a history", path.display()))?;
    let verdicts = check_all(&history);
    fs::write(folder.join("report.html"), report::render(&history, &verdicts)).context("cannot write the report")?;
    let figures = Figures::of(&history);
    let violations = verdicts.iter().map(|verdict| verdict.violations_total).sum();
    let (faults, figures) = (figures.faults.len(), spreads(&history, &figures));
    let results = Results { verdicts, figures, faults, violations };
    fs::write(folder.join("verdicts.json"), serde_json::to_vec_pretty(&results)?)
        .context("cannot write the verdicts")?;
    Ok(results)
}
