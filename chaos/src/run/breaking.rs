//! The part of a run in which things break, and are healed again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xebec_chaos_core::history::{Event, Fault, FaultPhase};

use super::{Recorder, progress::Line, schedule::Turn};
use crate::{
    faults::{Deed, Scene},
    stores::Hosts,
};

/// After the last fault is healed, clients go on for so long.
const RECOVERY: Duration = Duration::from_secs(5);
/// Between a flapping link's changes.
const FLAP: Duration = Duration::from_millis(500);
/// What comes in turns gives way to the next after this.
const TURN: Duration = Duration::from_millis(1_000);
/// How often the progress line is renewed.
const TELL_PAUSE: Duration = Duration::from_millis(250);

/// Turns in their order, then a quiet end. Whatever is broken is healed before it returns.
pub(super) async fn break_things(
    time: Duration,
    turns: Vec<Turn>,
    hosts: Option<&Hosts>,
    scene: impl Fn() -> Scene,
    recorder: &Recorder,
    stop: &CancellationToken,
) -> Result<()> {
    let (start, mut late) = (Instant::now(), Duration::ZERO);
    let mut line = Line::new(time);
    let mut done = 0;
    for mut turn in turns {
        let Some(hosts) = hosts else { break };
        let begin = start + turn.begin + late;
        if begin + turn.hold > start + time {
            break;
        }
        if !wait(begin, &mut line, recorder, "", done, stop, async || Ok(())).await? {
            break;
        }
        let mut deed = (turn.fault.plan)(scene(), &mut turn.rng);
        mark(recorder, &turn, FaultPhase::Begin, &deed);
        let injected = deed.inject(hosts).await;
        let told = format!("{} {deed}", turn.fault.name);
        let held = match injected {
            Ok(()) => {
                hold(&mut deed, hosts, Instant::now() + turn.hold, &mut line, recorder, (&told, done), stop).await
            }
            Err(error) => Err(error),
        };
        let healed = deed.heal(hosts).await;
        mark(recorder, &turn, FaultPhase::End, &deed);
        held.and(healed).with_context(|| format!("fault {told}"))?;
        done += 1;
        // A fault that took its time puts off those after it: each is held and healed in full.
        late = Instant::now().saturating_duration_since(start + turn.begin + turn.hold);
    }
    wait(start + time, &mut line, recorder, "", done, stop, async || Ok(())).await?;
    if !stop.is_cancelled() {
        tokio::time::sleep(RECOVERY).await;
    }
    line.end();
    Ok(())
}

fn mark(recorder: &Recorder, turn: &Turn, phase: FaultPhase, deed: &Deed) {
    let (time, name) = (recorder.now(), turn.fault.name.to_owned());
    recorder.record(&Event::Fault(Fault { time, id: turn.id, name, phase, detail: deed.to_string() }));
}

async fn hold(
    deed: &mut Deed,
    hosts: &Hosts,
    until: Instant,
    line: &mut Line,
    recorder: &Recorder,
    (told, done): (&str, usize),
    stop: &CancellationToken,
) -> Result<()> {
    let mut changed = Instant::now();
    let (mut cut, mut turned) = (true, false);
    let flap = async || {
        if !turned && changed.elapsed() >= TURN && matches!(deed, Deed::Turn(..)) {
            turned = true;
            return deed.turn(hosts);
        }
        if matches!(deed, Deed::Flap(_)) && changed.elapsed() >= FLAP {
            changed = Instant::now();
            cut = !cut;
            return if cut { deed.inject(hosts).await } else { deed.heal(hosts).await };
        }
        Ok(())
    };
    wait(until, line, recorder, told, done, stop, flap).await.map(drop)
}

/// Waits until a moment; false if the run was stopped meanwhile.
async fn wait(
    until: Instant,
    line: &mut Line,
    recorder: &Recorder,
    told: &str,
    done: usize,
    stop: &CancellationToken,
    mut meanwhile: impl AsyncFnMut() -> Result<()>,
) -> Result<bool> {
    while Instant::now() < until {
        line.tell(recorder, told, done);
        meanwhile().await?;
        tokio::select! {
            () = tokio::time::sleep_until(until.min(Instant::now() + TELL_PAUSE)) => {}
            () = stop.cancelled() => return Ok(false),
        }
    }
    Ok(true)
}
