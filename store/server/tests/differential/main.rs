//! The same sequences to a real etcd and to Xebec, and the answers compared: responses, codes and messages, exactly, but
//! for identities and times (`differences.rs` has what else may differ, and why).
//!
//! The etcd is `$ETCD_BIN`, or the one in the path; without one these tests fail. Sequences follow from a seed, which is
//! printed with a failure together with the shortest sequence that still fails. `XEBEC_DIFFERENTIAL_SEED` replays a seed,
//! `XEBEC_DIFFERENTIAL_SECONDS` gives more time.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::env;

use tokio::time::{Duration, Instant};

mod differences;
mod generate;
mod player;
#[path = "../processes/mod.rs"]
mod processes;
mod random;
mod scenes;
mod server;
mod shrink;
mod step;
mod watches;

use generate::Generator;
use server::Server;
use step::{Step, Turn, script};

/// Steps of a sequence.
const STEPS: usize = 60;
/// Time for sequences at random, in seconds.
const SECONDS_DEFAULT: u64 = 25;
/// Sequences after which the time does not matter.
const SEQUENCES_MIN: u64 = 8;
/// The seed of the first sequence, unless one is named.
const FIRST_SEED: u64 = 1;

/// Where the servers' answers part.
pub struct Difference {
    /// How many turns it takes.
    pub turns: usize,
    text: String,
}

/// Both servers.
pub struct Pair {
    etcd: Server,
    xebec: Server,
    version: (u32, u32),
}

impl Pair {
    pub async fn start(more_flags: &[&str]) -> Pair {
        let (etcd, xebec) = tokio::join!(Server::etcd(more_flags), Server::xebec(more_flags));
        let version = etcd.version().await;
        Pair { etcd, xebec, version }
    }

    /// Empties both and takes them to the same revision: that revision.
    async fn reset(&self) -> i64 {
        tokio::join!(player::empty(&self.etcd), player::empty(&self.xebec));
        let base = player::revision(&self.etcd).await.max(player::revision(&self.xebec).await) + 2;
        tokio::join!(player::advance(&self.etcd, base), player::advance(&self.xebec, base));
        base
    }

    /// Plays a sequence on both, from nothing: the first difference.
    pub async fn compare(&self, turns: &[Turn]) -> Option<Difference> {
        let base = self.reset().await;
        let (theirs, ours) =
            tokio::join!(player::play(&self.etcd, turns, base), player::play(&self.xebec, turns, base));
        let end = Turn { number: turns.len(), client: 0, step: Step::Settle };
        let outcomes = theirs.outcomes.iter().zip(&ours.outcomes);
        for (index, (turn, (theirs, ours))) in turns.iter().chain([&end]).zip(outcomes).enumerate() {
            let differs = theirs != ours && !differences::is_known(self.version, &turn.step, theirs, ours);
            // What both get wrong alike is wrong still: watches that have not seen what happened.
            if differs || (matches!(turn.step, Step::Settle) && !ours.is_empty()) {
                let step = script(std::slice::from_ref(turn));
                let text = format!("{step}\n  etcd:  {theirs}\n  Xebec: {ours}");
                return Some(Difference { turns: (index + 1).min(turns.len()), text });
            }
        }
        let mut events = theirs.journal.iter().zip(&ours.journal);
        if let Some((theirs, ours)) = events.find(|(theirs, ours)| theirs != ours) {
            return Some(Difference {
                turns: turns.len(),
                text: format!("an event\n  etcd:  {theirs}\n  Xebec: {ours}"),
            });
        }
        let (theirs, ours) = (theirs.journal.len(), ours.journal.len());
        let text = || format!("etcd had {theirs} events, Xebec {ours}");
        (theirs != ours).then(|| Difference { turns: turns.len(), text: text() })
    }
}

fn number_from(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xebec_answers_any_sequence_as_etcd_does() {
    let replayed = number_from("XEBEC_DIFFERENTIAL_SEED");
    let seconds = number_from("XEBEC_DIFFERENTIAL_SECONDS").unwrap_or(SECONDS_DEFAULT);
    let pair = Pair::start(&[]).await;
    println!("etcd {}.{}: {}", pair.version.0, pair.version.1, server::etcd_binary().display());
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut seed = replayed.unwrap_or(FIRST_SEED);
    let mut played = 0;
    while played < SEQUENCES_MIN || Instant::now() < deadline {
        let turns = Generator::new(seed, pair.version).sequence(STEPS);
        if let Some(difference) = pair.compare(&turns).await {
            println!("seed {seed}: {}", difference.text);
            let (shortest, difference) = shrink::shrink(&pair, turns, difference).await;
            panic!(
                "seed {seed} (XEBEC_DIFFERENTIAL_SEED={seed} replays it): {}\nshortest sequence:\n{}",
                difference.text,
                script(&shortest)
            );
        }
        played += 1;
        if replayed.is_some() {
            break;
        }
        seed += 1;
    }
    println!("{played} sequences of {STEPS} steps, no difference");
}
