//! Short runs from end to end, all checks on: three members of a store on hosts of their own with one fault of each family, and a
//! control plane whose leaders are broken.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;
use xebec_chaos::run::{DiskNames, Flags, run};

/// Long enough for each of the faults.
const TIME: Duration = Duration::from_secs(60);
/// Power loss of everybody stands for a regression too: it once brought back three empty members, whose directories' own names had
/// not been synced.
const STORE_FAULTS: [&str; 5] = ["power-loss-all", "leader-alone", "kill-leader", "member-replace", "torn-writes"];
/// These once brought a deleted Service back: its creation had been repeated while the first attempt was still under way.
const PLANE_FAULTS: [&str; 4] = ["kill-leader", "pause-scheduler", "leader-alone", "node-lost"];
/// Workers of the control plane, with pods that only pretend.
const HOLLOW_NODES: u8 = 2;
/// Any, but always the same.
const SEED: u64 = 20_261_121;

fn flags(out: &Path, faults: &[&str]) -> Result<Flags> {
    let binary = env::var_os("XEBEC_BINARY").context("XEBEC_BINARY is not set: run `cargo xtask test`")?;
    Ok(Flags {
        time: TIME,
        seed: Some(SEED),
        faults: faults.iter().map(|name| (*name).to_owned()).collect(),
        workload: Vec::new(),
        endpoints: Vec::new(),
        etcd: None,
        hollow: None,
        reference: false,
        kubeconfig: None,
        judge: None,
        binary: Some(PathBuf::from(binary)),
        disk: DiskNames::Strict,
        until_violated: false,
        upgrade_to: None,
        out: out.to_owned(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_keeps_its_word_whatever_breaks() -> Result<()> {
    let out = tempfile::tempdir()?;
    run(flags(out.path(), &STORE_FAULTS)?, CancellationToken::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_keeps_its_word_whatever_breaks() -> Result<()> {
    let out = tempfile::tempdir()?;
    let flags = Flags { hollow: Some(HOLLOW_NODES), ..flags(out.path(), &PLANE_FAULTS)? };
    run(flags, CancellationToken::new()).await
}
