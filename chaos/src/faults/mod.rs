//! Faults: what is broken is decided by pure code from a seed, and done by [`deed`]. A new fault is a file with its plans and a
//! row in [`FAULTS`].

pub(crate) mod clock;
mod deed;
mod disks;
mod flip;
mod kill;
mod limits;
mod means;
mod membership;
mod node;
mod partition;
mod pause;
mod rolling;

use rand::{rngs::StdRng, seq::SliceRandom as _};

pub use clock::Clock;
pub use deed::{Deed, Link};
pub use disks::{DiskTrouble, PowerLoss};
pub use flip::Flip;
pub use limits::Limit;
pub use means::{Needs, means_here, means_of_plane};
pub use membership::{Guest, Handover, Replace};
pub use node::{LOST_NODE, NodeTrouble};
pub use rolling::Rolling;

/// What a plan knows of the store.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Members, by index from 0.
    pub members: usize,
    /// The member that leads, if anybody knows.
    pub leader: Option<usize>,
    /// The master whose scheduler leads, of a control plane.
    pub scheduler: Option<usize>,
    /// The master whose controllers lead, of a control plane.
    pub controllers: Option<usize>,
    /// Worker hosts of a control plane.
    pub workers: u8,
}

impl Scene {
    /// A store without anything above it.
    pub fn of_store(members: usize, leader: Option<usize>) -> Self {
        Self { members, leader, scheduler: None, controllers: None, workers: 0 }
    }

    /// The leader, or a member by chance while nobody leads.
    fn leader_or_any(self, rng: &mut StdRng) -> usize {
        self.leader.unwrap_or_else(|| rand::RngExt::random_range(rng, 0..self.members))
    }
}

/// A kind of fault.
pub struct Fault {
    /// As in `--faults`.
    pub name: &'static str,
    /// In one line.
    pub about: &'static str,
    /// What it takes.
    pub needs: Needs,
    /// What to do this time.
    pub plan: fn(Scene, &mut StdRng) -> Deed,
}

/// Every fault there is.
pub const FAULTS: [Fault; 41] = [
    fault("kill-one", "SIGKILL for a member", Needs::Processes, kill::one),
    fault("kill-leader", "SIGKILL for the leader", Needs::Processes, kill::leader),
    fault("kill-minority", "SIGKILL for as many as may be lost", Needs::Processes, kill::minority),
    fault("kill-majority", "SIGKILL for one more than may be lost", Needs::Processes, kill::majority),
    fault("kill-all", "SIGKILL for everybody at once", Needs::Processes, kill::all),
    fault("pause-leader", "SIGSTOP for the leader beyond every timeout", Needs::Processes, pause::leader),
    fault("pause-one", "SIGSTOP for a member", Needs::Processes, pause::one),
    fault("pause-all", "SIGSTOP for everybody", Needs::Processes, pause::all),
    fault("kill-scheduler", "SIGKILL for the master whose scheduler leads", Needs::ControlPlane, kill::scheduler),
    fault("kill-controllers", "SIGKILL for the master whose controllers lead", Needs::ControlPlane, kill::controllers),
    fault("pause-scheduler", "SIGSTOP for the master whose scheduler leads", Needs::ControlPlane, pause::scheduler),
    fault(
        "pause-controllers",
        "SIGSTOP for the master whose controllers lead",
        Needs::ControlPlane,
        pause::controllers,
    ),
    fault("agent-killed", "SIGKILL for a node agent", Needs::Nodes, node::agent),
    fault("runtime-killed", "SIGKILL for a node's container runtime", Needs::Containers, node::runtime),
    fault(LOST_NODE, "a whole worker host, until its pods run elsewhere", Needs::Nodes, node::host),
    fault("halves", "a majority and a minority that do not hear each other", Needs::Networks, partition::halves),
    fault("leader-alone", "nobody hears the leader, nor it them", Needs::Networks, partition::leader_alone),
    fault(
        "left-behind",
        "a follower, and then the leader in its place, hears nobody",
        Needs::Networks,
        partition::left_behind,
    ),
    fault("bridge", "two members hear each other only through the third", Needs::Networks, partition::bridge),
    fault("one-way", "the leader is heard, but hears nobody", Needs::Networks, partition::one_way),
    fault("flapping", "the leader's links break and heal twice a second", Needs::Networks, partition::flapping),
    fault("lossy", "a tenth to a half of a member's packets are lost, each way", Needs::Networks, partition::lossy),
    fault("slow", "a member's packets arrive 10 to 200 ms late, each way", Needs::Queues, partition::slow),
    fault("power-loss", "a member dies and its disk forgets what was not synced", Needs::Disks, disks::power_loss),
    fault("power-loss-all", "the same for everybody at once", Needs::Disks, disks::power_loss_all),
    fault("torn-writes", "power loss in the middle of a write, for any number", Needs::Disks, disks::torn_writes),
    fault("disk-slow", "the leader's syncs take 20 to 400 ms", Needs::Disks, disks::slow),
    fault("disk-hang", "the leader's syncs do not end", Needs::Disks, disks::hang),
    fault("disk-full", "no space for a member, or for everybody", Needs::Disks, disks::full),
    fault("disk-failing", "the leader's syncs fail: it must stop", Needs::Disks, disks::failing),
    fault("bit-flip", "a bit of a stopped member's log, keyspace or snapshot", Needs::Store, flip::one),
    fault("member-replace", "a member is removed, and comes back empty as another", Needs::Store, membership::replace),
    fault("member-replace-leader", "the same for the leader", Needs::Store, membership::replace_leader),
    fault("member-guest", "a fourth member: learner, voter, removed", Needs::Store, membership::guest),
    fault("handover", "the leader hands over", Needs::Store, membership::handover),
    fault("rolling-restart", "one member after the other is stopped and started", Needs::Store, rolling::restart),
    fault("rolling-upgrade", "the same, to the build of --upgrade-to, and back", Needs::Builds, rolling::upgrade),
    fault("limit-files", "the leader may open three more files", Needs::Store, limits::files),
    fault("limit-memory", "a member gets no more memory", Needs::Cgroups, limits::memory),
    fault("clock-jump", "a member's wall clock jumps, by seconds to a day", Needs::Clocks, clock::jump),
    fault("clock-drift", "a member's wall clock runs up to a fifth too fast or slow", Needs::Clocks, clock::drift),
];

const fn fault(name: &'static str, about: &'static str, needs: Needs, plan: fn(Scene, &mut StdRng) -> Deed) -> Fault {
    Fault { name, about, needs, plan }
}

/// The fault of a name.
pub fn find(name: &str) -> Option<&'static Fault> {
    FAULTS.iter().find(|fault| fault.name == name)
}

/// Some members, in order.
fn members_by_chance(scene: Scene, rng: &mut StdRng, count: usize) -> Vec<usize> {
    let mut members: Vec<usize> = (0..scene.members).collect();
    members.shuffle(rng);
    members.truncate(count);
    members.sort_unstable();
    members
}

/// `m1 m3`.
fn names(members: &[usize]) -> String {
    members.iter().map(|member| format!("m{}", member + 1)).collect::<Vec<_>>().join(" ")
}
