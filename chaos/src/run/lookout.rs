//! Runs that should fail end as soon as they have.

use std::{io::BufReader, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use xebec_chaos_core::{
    checks::check_all,
    history,
    verdict::{Judgement, Verdict},
};

use super::Recorder;

/// Between looks, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// A look is followed by a pause of so many times what it took, so that judging leaves the machine to the run.
const PAUSE_RATIO: u32 = 2;

/// Judges what was seen so far, again and again.
pub(super) struct Lookout {
    /// Cancelled when something is violated, or with the run.
    pub(super) over: CancellationToken,
    found: CancellationToken,
    looking: JoinHandle<Result<()>>,
}

impl Lookout {
    /// Looks until `stop`; where nothing is `wanted`, it only hands `stop` on.
    pub(super) fn begin(wanted: bool, recorder: &Arc<Recorder>, stop: &CancellationToken) -> Self {
        let (over, found) = (stop.child_token(), CancellationToken::new());
        let look = look(Arc::clone(recorder), over.clone(), found.clone());
        let looking = tokio::spawn(async move { if wanted { look.await } else { Ok(()) } });
        Self { over, found, looking }
    }

    /// Ends the looking; whether something is violated.
    ///
    /// # Errors
    /// The history could not be read.
    pub(super) async fn end(self) -> Result<bool> {
        self.over.cancel();
        self.looking.await.context("the lookout panicked")??;
        Ok(self.found.is_cancelled())
    }
}

async fn look(recorder: Arc<Recorder>, over: CancellationToken, found: CancellationToken) -> Result<()> {
    let mut pause = PAUSE;
    loop {
        tokio::select! {
            () = over.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        let (begun, seen) = (Instant::now(), Arc::clone(&recorder));
        if tokio::task::spawn_blocking(move || is_violated(&seen)).await.context("judging panicked")?? {
            found.cancel();
            over.cancel();
        }
        pause = PAUSE.max(begun.elapsed() * PAUSE_RATIO);
    }
}

fn is_violated(recorder: &Recorder) -> Result<bool> {
    let lines = BufReader::new(recorder.so_far().context("cannot read what was seen so far")?);
    let history = history::read(lines).context("what was seen so far is no history")?;
    // A search that gave up may be one that a longer history decides.
    let bad = |verdict: &Verdict| verdict.outcome == Judgement::Violated;
    Ok(check_all(&history).iter().any(bad))
}

#[cfg(test)]
mod tests {
    use xebec_chaos_core::history::{Action, Answer, Event, Header};

    use super::*;

    /// Clients whose pods were bound to these nodes.
    async fn looked_at(nodes: &[&str]) -> (bool, bool) {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Arc::new(Recorder::create(&dir.path().join("history.jsonl"), &Header::default()).unwrap());
        for node in nodes {
            let (process, op) =
                (recorder.new_process(), Action::Bind { pod: "d/p/u".into(), node: (*node).to_owned() });
            recorder.record(&Event::Invoke { time: recorder.now(), process, op });
            recorder.record(&Event::Ok { time: recorder.now(), process, result: Answer::default() });
        }
        let lookout = Lookout::begin(true, &recorder, &CancellationToken::new());
        let ended_early = tokio::time::timeout(PAUSE * 2, lookout.over.cancelled()).await.is_ok();
        (ended_early, lookout.end().await.unwrap())
    }

    #[tokio::test]
    async fn a_run_ends_with_what_it_violates() {
        assert_eq!(looked_at(&["n1", "n2"]).await, (true, true));
    }

    #[tokio::test]
    async fn a_run_in_which_all_is_well_goes_on() {
        assert_eq!(looked_at(&["n1"]).await, (false, false));
    }
}
