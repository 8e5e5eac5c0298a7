//! The operator: adds members, promotes learners and removes members, the leader not spared, while everything else goes
//! on. It decides by what a linearizable list says, so that an answer that got lost is found out by the next list.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};
use tonic::Status;
use xebec_proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, StatusRequest,
    cluster_client::ClusterClient, maintenance_client::MaintenanceClient,
};
use xebec_store_raft::PeerTransport;

use xebec_store_dice::Dice;

use crate::{
    machine::{number_in, peer_url},
    network::{HostId, Network, Port},
    trace::Trace,
};

/// How long the operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Milliseconds between two looks.
const PAUSE_MILLIS: (u64, u64) = (100, 1_500);

/// A member as the cluster lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its machine.
    pub machine: HostId,
    /// Its id.
    pub id: u64,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// Whether it has ever taken part.
    pub is_started: bool,
}

#[derive(Debug, Default)]
struct Notes {
    members: Vec<Listed>,
    lists: u64,
    spares: BTreeSet<HostId>,
    changes: u64,
}

/// Where the operator says who the members are, and the machine room which machines are free. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Notes>>);

impl Board {
    /// The last list, and how many there were.
    #[must_use]
    pub fn members(&self) -> (Vec<Listed>, u64) {
        let notes = self.0.lock();
        (notes.members.clone(), notes.lists)
    }

    /// How many lists there were.
    #[must_use]
    pub fn lists(&self) -> u64 {
        self.0.lock().lists
    }

    /// Changes that the cluster confirmed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// A machine is free, or not any more.
    pub fn set_spare(&self, machine: HostId, is_spare: bool) {
        let mut notes = self.0.lock();
        if is_spare {
            notes.spares.insert(machine);
        } else {
            notes.spares.remove(&machine);
        }
    }

    fn post(&self, members: Vec<Listed>) {
        let mut notes = self.0.lock();
        notes.members = members;
        notes.lists += 1;
    }

    fn spares(&self) -> Vec<HostId> {
        self.0.lock().spares.iter().copied().collect()
    }
}

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add { machine: HostId, is_learner: bool },
    Promote(u64),
    Remove(u64),
}

/// The operator.
pub struct Operator {
    /// Its host.
    pub host: HostId,
    /// Machines there are.
    pub machines: usize,
    /// Members that shall vote at least.
    pub voters_min: usize,
    /// How it reaches them.
    pub network: Network,
    /// Where it says what it learns.
    pub board: Board,
    /// Told to change nothing any more; it goes on listing.
    pub done: Arc<AtomicBool>,
    /// What happened.
    pub trace: Trace,
}

impl Operator {
    /// Works for ever.
    pub async fn work(self, mut dice: Dice) {
        loop {
            sleep(Duration::from_millis(dice.within(PAUSE_MILLIS.0, PAUSE_MILLIS.1))).await;
            let at = dice.below(self.machines);
            if let Ok(Ok(members)) = timeout(PATIENCE, self.list(at)).await {
                self.board.post(members.clone());
                if self.done.load(Ordering::Relaxed) {
                    continue;
                }
                let leader = timeout(PATIENCE, self.leader(at)).await.ok().and_then(Result::ok);
                let Some(change) = choose(&members, leader, &self.board.spares(), self.voters_min, &mut dice) else {
                    continue;
                };
                let asked = timeout(PATIENCE, self.ask(at, change)).await;
                let told = match &asked {
                    Ok(Ok(())) => "done".to_owned(),
                    Ok(Err(status)) => status.message().to_owned(),
                    Err(_) => "no answer".to_owned(),
                };
                self.trace
                    .note(self.network.now_millis() * 1_000, format_args!("OPERATOR at m{at} {change:?}: {told}"));
                self.board.0.lock().changes += u64::from(matches!(asked, Ok(Ok(()))));
            }
        }
    }

    fn transport(&self, machine: HostId) -> PeerTransport {
        self.network.transport(self.host, machine, Port::Client)
    }

    async fn list(&self, at: HostId) -> Result<Vec<Listed>, Status> {
        let request = MemberListRequest { linearizable: true };
        let response = ClusterClient::new(self.transport(at)).member_list(request).await?.into_inner();
        let listed = response.members.into_iter().filter_map(|member| {
            let machine = number_in(member.peer_ur_ls.first()?)?;
            let is_started = !member.name.is_empty();
            Some(Listed { machine, id: member.id, is_learner: member.is_learner, is_started })
        });
        Ok(listed.collect())
    }

    async fn leader(&self, at: HostId) -> Result<u64, Status> {
        Ok(MaintenanceClient::new(self.transport(at)).status(StatusRequest {}).await?.into_inner().leader)
    }

    async fn ask(&self, at: HostId, change: Change) -> Result<(), Status> {
        let mut cluster = ClusterClient::new(self.transport(at));
        match change {
            Change::Add { machine, is_learner } => {
                let request = MemberAddRequest { peer_ur_ls: vec![peer_url(machine)], is_learner };
                cluster.member_add(request).await.map(drop)
            }
            Change::Promote(id) => cluster.member_promote(MemberPromoteRequest { id }).await.map(drop),
            Change::Remove(id) => cluster.member_remove(MemberRemoveRequest { id }).await.map(drop),
        }
    }
}

/// The next change: what joins is waited for, and seldom removed at once.
fn choose(
    members: &[Listed],
    leader: Option<u64>,
    spares: &[HostId],
    voters_min: usize,
    dice: &mut Dice,
) -> Option<Change> {
    if let Some(joining) = members.iter().find(|member| !member.is_started) {
        return dice.percent(5).then_some(Change::Remove(joining.id));
    }
    if let Some(learner) = members.iter().find(|member| member.is_learner) {
        return Some(if dice.percent(15) { Change::Remove(learner.id) } else { Change::Promote(learner.id) });
    }
    let leads = |member: &&Listed| leader == Some(member.id);
    if members.len() > voters_min && dice.percent(60) {
        let chosen = match members.iter().find(leads) {
            Some(leader) if dice.percent(50) => leader,
            _ => dice.pick(members),
        };
        return Some(Change::Remove(chosen.id));
    }
    if spares.is_empty() || !dice.percent(50) {
        return None;
    }
    Some(Change::Add { machine: *dice.pick(spares), is_learner: dice.percent(50) })
}
