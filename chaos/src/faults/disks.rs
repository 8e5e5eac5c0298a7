//! Disks that lose power, are slow, are full, or fail.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use rand::{RngExt as _, rngs::StdRng};
use xebec_chaos_disk::{Conditions, Loss};

use super::{Deed, Scene, members_by_chance, names};
use crate::stores::Hosts;

/// A disk is slowed by so many milliseconds a sync; each sync takes up to twice as long.
const SLOW_MILLIS: std::ops::Range<u64> = 20..200;
/// A disk that hangs: nothing is saved until it is healed.
const HANG: Duration = Duration::from_secs(3_600);

/// Members die, and their disks forget what was not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerLoss {
    /// Who.
    pub members: Vec<usize>,
    /// With a seed, the last unsynced writes are torn.
    pub torn: Option<u64>,
}

/// Disks that misbehave while their members go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskTrouble {
    /// Whose.
    pub members: Vec<usize>,
    /// How.
    pub conditions: Conditions,
    /// What became of it.
    pub outcome: String,
}

/// One, by chance.
pub(super) fn power_loss(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::PowerLoss(PowerLoss { members: members_by_chance(scene, rng, 1), torn: None })
}

/// Everybody: what was acknowledged must have been synced.
pub(super) fn power_loss_all(scene: Scene, _: &mut StdRng) -> Deed {
    Deed::PowerLoss(PowerLoss { members: (0..scene.members).collect(), torn: None })
}

/// Any number of members, in the middle of a write.
pub(super) fn torn_writes(scene: Scene, rng: &mut StdRng) -> Deed {
    let count = rng.random_range(1..=scene.members);
    Deed::PowerLoss(PowerLoss { members: members_by_chance(scene, rng, count), torn: Some(rng.random()) })
}

/// The leader's, by a factor that users see.
pub(super) fn slow(scene: Scene, rng: &mut StdRng) -> Deed {
    let sync_delay = Duration::from_millis(rng.random_range(SLOW_MILLIS));
    trouble(
        vec![scene.leader_or_any(rng)],
        Conditions { sync_delay, write_delay: Duration::ZERO, ..Conditions::default() },
    )
}

/// The leader's hangs: somebody else must lead.
pub(super) fn hang(scene: Scene, rng: &mut StdRng) -> Deed {
    trouble(vec![scene.leader_or_any(rng)], Conditions { sync_delay: HANG, ..Conditions::default() })
}

/// A member's, or everybody's.
pub(super) fn full(scene: Scene, rng: &mut StdRng) -> Deed {
    let count = [1, scene.members][rng.random_range(0..2)];
    trouble(members_by_chance(scene, rng, count), Conditions { full: true, ..Conditions::default() })
}

/// The leader's: what a failed sync left out is lost, so it must stop.
pub(super) fn failing(scene: Scene, rng: &mut StdRng) -> Deed {
    trouble(vec![scene.leader_or_any(rng)], Conditions { sync_fails: true, ..Conditions::default() })
}

fn trouble(members: Vec<usize>, conditions: Conditions) -> Deed {
    Deed::Disk(DiskTrouble { members, conditions, outcome: String::new() })
}

impl PowerLoss {
    pub(super) fn inject(&self, hosts: &Hosts) -> Result<()> {
        // All signals first: those that die together must not notice each other's deaths one by one.
        for member in &self.members {
            hosts.member(*member).signal(Signal::SIGKILL)?;
        }
        let loss = self.torn.map_or(Loss::Unsynced, |seed| Loss::Torn { seed });
        self.members.iter().try_for_each(|member| hosts.member(*member).lose_power(loss))
    }

    pub(super) fn heal(&self, hosts: &Hosts) -> Result<()> {
        self.members.iter().try_for_each(|member| hosts.member(*member).start())
    }
}

impl DiskTrouble {
    pub(super) fn inject(&self, hosts: &Hosts) -> Result<()> {
        for member in &self.members {
            hosts.member(*member).disk()?.set(self.conditions);
        }
        Ok(())
    }

    /// A member that has stopped is started again; one whose syncs failed must have stopped.
    pub(super) fn heal(&mut self, hosts: &Hosts) -> Result<()> {
        for member in self.members.clone() {
            self.heal_one(hosts, member)?;
        }
        Ok(())
    }

    fn heal_one(&mut self, hosts: &Hosts, index: usize) -> Result<()> {
        let member = hosts.member(index);
        let disk = member.disk()?;
        let failures = disk.take_failures();
        let runs = member.is_running();
        disk.set(Conditions::default());
        let what = if self.conditions.sync_fails { "syncs" } else { "requests" };
        if failures > 0 {
            let became = if runs { "went on" } else { "stopped" };
            self.outcome += &format!(", {} {became} after {failures} failed {what}", member.name());
        } else if !runs {
            self.outcome += &format!(", {} stopped", member.name());
        }
        if self.conditions.sync_fails {
            // What it still believes to have saved is not there: only a start from the disk shows what is.
            member.kill()?;
            member.lose_power(Loss::Unsynced).context("after failed syncs")?;
        }
        member.start()?;
        if self.conditions.sync_fails && runs && failures > 0 {
            bail!("{} went on after {failures} failed syncs", member.name());
        }
        Ok(())
    }
}

impl std::fmt::Display for PowerLoss {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", names(&self.members))
    }
}

impl std::fmt::Display for DiskTrouble {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", names(&self.members))?;
        let delay = self.conditions.sync_delay;
        if !delay.is_zero() && delay < HANG {
            write!(out, " by {} ms", delay.as_millis())?;
        }
        write!(out, "{}", self.outcome)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn disks_fail_where_it_hurts() {
        let scene = Scene::of_store(3, Some(2));
        let rng = &mut StdRng::seed_from_u64(4);
        assert_eq!(hang(scene, rng).to_string(), "m3");
        assert_eq!(failing(scene, rng).to_string(), "m3");
        assert_eq!(power_loss_all(scene, rng).to_string(), "m1 m2 m3");
        for _ in 0..20 {
            let Deed::Disk(trouble) = full(scene, rng) else { panic!("not the disk") };
            assert!([1, 3].contains(&trouble.members.len()));
            let Deed::PowerLoss(loss) = torn_writes(scene, rng) else { panic!("not the power") };
            assert!((1..=3).contains(&loss.members.len()) && loss.torn.is_some());
        }
    }
}
