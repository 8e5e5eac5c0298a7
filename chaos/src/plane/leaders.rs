//! Who leads the scheduler and the controllers, as their Leases say.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_chaos_core::history::{Event, Leadership};

use super::World;
use crate::run::Recorder;

/// Stands for "nobody knows".
const NOBODY: usize = usize::MAX;
/// The Leases that mirror leaderships, and in a word what they lead.
const LEASES: [(&str, &str); 2] = [("kube-scheduler", "scheduler"), ("kube-controller-manager", "controllers")];

/// The latest known leaders of the control loops, by their hosts' indexes.
#[derive(Clone, Debug)]
pub struct Loops(Arc<[AtomicUsize; 2]>);

impl Loops {
    /// Where the scheduler leads.
    pub fn scheduler(&self) -> Option<usize> {
        self.leader(0)
    }

    /// Where the controllers lead.
    pub fn controllers(&self) -> Option<usize> {
        self.leader(1)
    }

    fn leader(&self, which: usize) -> Option<usize> {
        Some(self.0[which].load(Ordering::Relaxed)).filter(|index| *index != NOBODY)
    }
}

/// Follows the Leases in the informers' caches, and records every change of leader. Ends with `stop`.
pub fn observe_loops(
    world: &Arc<World>,
    names: &[String],
    recorder: &Arc<Recorder>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Loops {
    let loops = Loops(Arc::new([AtomicUsize::new(NOBODY), AtomicUsize::new(NOBODY)]));
    for (which, (lease, leads)) in LEASES.into_iter().enumerate() {
        let (world, names, recorder) = (Arc::clone(world), names.to_vec(), Arc::clone(recorder));
        let (loops, stop) = (loops.clone(), stop.clone());
        tasks.spawn(async move {
            let object = format!("leases/kube-system/{lease}");
            let (mut known, mut terms) = (String::new(), 0);
            loop {
                tokio::select! {
                    fresh = world.other_term(&object, &known) => known = fresh,
                    () = stop.cancelled() => return,
                }
                terms += 1;
                // `holderIdentity` is the host's name, with or without a suffix of the process.
                let holder = known.split(['@', '_']).next().unwrap_or_default();
                let index = names.iter().position(|name| name == holder);
                loops.0[which].store(index.unwrap_or(NOBODY), Ordering::Relaxed);
                let leader = (!holder.is_empty()).then(|| format!("{holder} ({leads})"));
                let (time, observer) = (recorder.now(), lease.to_owned());
                recorder.record(&Event::Leader(Leadership { time, observer, leader, term: terms }));
            }
        });
    }
    loops
}
