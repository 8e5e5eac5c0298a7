//! Who leads, as the members say themselves.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use xebec_chaos_core::history::{Event, Leadership};

use super::Recorder;
use crate::etcd::Etcd;

/// Between questions to one member.
const PAUSE: Duration = Duration::from_millis(100);
/// A member that does not answer for so long is not heard.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Stands for "nobody knows".
const NOBODY: usize = usize::MAX;

/// The latest known leader.
#[derive(Clone, Debug)]
pub(super) struct Leader(Arc<AtomicUsize>);

impl Leader {
    /// Its index among the members.
    pub(super) fn index(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|index| *index != NOBODY)
    }
}

/// Asks every member again and again, records what changes, and remembers the leader of the highest term.
pub(super) fn observe(
    members: &Arc<Vec<Etcd>>,
    names: &[String],
    recorder: &Arc<Recorder>,
    stop: &CancellationToken,
    tasks: &mut tokio::task::JoinSet<()>,
) -> Leader {
    let leader = Leader(Arc::new(AtomicUsize::new(NOBODY)));
    let ids: Arc<std::sync::Mutex<HashMap<u64, usize>>> = Arc::default();
    let term: Arc<std::sync::atomic::AtomicU64> = Arc::default();
    for (index, observer) in names.iter().cloned().enumerate() {
        let (members, names, recorder) = (Arc::clone(members), names.to_vec(), Arc::clone(recorder));
        let (stop, leader, ids, highest) = (stop.clone(), leader.clone(), Arc::clone(&ids), Arc::clone(&term));
        tasks.spawn(async move {
            let mut said = None;
            while !stop.is_cancelled() {
                let status = tokio::time::timeout(TIMEOUT, members[index].status()).await;
                let (named, term) = match status {
                    Ok(Ok(status)) => {
                        let mut ids = ids.lock().expect("no observer panics with it");
                        ids.extend(status.header.map(|header| (header.member_id, index)));
                        (ids.get(&status.leader).copied(), status.raft_term)
                    }
                    _ => (None, 0),
                };
                if let Some(named) = named
                    && highest.fetch_max(term, Ordering::Relaxed) <= term
                {
                    leader.0.store(named, Ordering::Relaxed);
                }
                if said != Some((named, term)) {
                    said = Some((named, term));
                    let (time, observer) = (recorder.now(), observer.clone());
                    let leader = named.map(|named| names[named].clone());
                    recorder.record(&Event::Leader(Leadership { time, observer, leader, term }));
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    leader
}
