//! A short run from end to end: three members on hosts of their own, deaths and partitions, every workload, all checks.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;
use xebec_chaos::run::{DiskNames, Flags, run};

/// Long enough for a handful of faults.
const TIME: Duration = Duration::from_secs(45);
/// Any, but always the same.
const SEED: u64 = 20_261_121;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_under_deaths_and_partitions_keeps_its_word() -> Result<()> {
    let binary = env::var_os("XEBEC_BINARY").context("XEBEC_BINARY is not set: run `cargo xtask test`")?;
    let out = tempfile::tempdir()?;
    let flags = Flags {
        time: TIME,
        seed: Some(SEED),
        faults: Vec::new(),
        workload: Vec::new(),
        endpoints: Vec::new(),
        etcd: None,
        judge: None,
        binary: Some(PathBuf::from(binary)),
        disk: DiskNames::Strict,
        upgrade_to: None,
        out: out.path().to_owned(),
    };
    run(flags, CancellationToken::new()).await
}
