//! What a fault does, and how it is undone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{Clock, DiskTrouble, Flip, Guest, Handover, Limit, NodeTrouble, PowerLoss, Replace, Rolling, names};
use crate::stores::Hosts;

/// Packets from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The sender.
    pub from: usize,
    /// The member that does not hear it.
    pub to: usize,
}

/// What to break. Members by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL; undone by a new start.
    Kill(Vec<usize>),
    /// SIGSTOP; undone by SIGCONT.
    Pause(Vec<usize>),
    /// Packets are dropped; undone by letting them through.
    Cut(Vec<Link>),
    /// Cut and let through, in turns.
    Flap(Vec<Link>),
    /// The first are cut, and after a while the others in their place; undone by letting everything through.
    Turn(Vec<Link>, Vec<Link>),
    /// Power; undone by a new start from what is left.
    PowerLoss(PowerLoss),
    /// Disks; undone by good ones.
    Disk(DiskTrouble),
    /// A worker host, or what runs on it.
    Node(NodeTrouble),
    /// A bit; undone by flipping it back.
    Flip(Flip),
    /// Packets are dropped by chance, so many in a hundred; undone by letting them through.
    Lose(Vec<Link>, u32),
    /// Packets arrive late, by so much in the mean; undone by letting them through.
    Slow(Vec<Link>, Duration),
    /// A member; undone by another one on its host.
    Replace(Replace),
    /// One member more; undone by its removal.
    Guest(Guest),
    /// Leadership; nothing to undo.
    Handover(Handover),
    /// Restarts in turn; undone by waiting for the last.
    Rolling(Rolling),
    /// A limit; undone by the one before.
    Limit(Limit),
    /// A wall clock; undone by the true time.
    Clock(Clock),
}

impl Deed {
    /// Breaks it. What it is told by may say more afterwards.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn inject(&mut self, hosts: &Hosts) -> Result<()> {
        match self {
            Self::Kill(members) => {
                // All signals first: those that die together must not notice each other's deaths one by one.
                each(members, |member| hosts.member(member).signal(Signal::SIGKILL))?;
                each(members, |member| hosts.member(member).kill())
            }
            Self::Pause(members) => each(members, |member| hosts.member(member).signal(Signal::SIGSTOP)),
            Self::Cut(links) | Self::Flap(links) | Self::Turn(links, _) => lose(hosts, links, 100),
            Self::Lose(links, percent) => lose(hosts, links, *percent),
            Self::Slow(links, mean) => {
                let mut late = by_hearer(links).into_iter();
                late.try_for_each(|(member, from)| hosts.member(member).hear_late(hosts, &from, *mean))
            }
            Self::PowerLoss(loss) => loss.inject(hosts),
            Self::Disk(trouble) => trouble.inject(hosts),
            Self::Node(trouble) => trouble.inject(hosts).await,
            Self::Flip(flip) => flip.inject(hosts),
            Self::Replace(replace) => replace.inject(hosts).await,
            Self::Guest(guest) => guest.inject(hosts).await,
            Self::Handover(handover) => handover.inject(hosts).await,
            Self::Rolling(rolling) => rolling.inject(hosts).await,
            Self::Limit(limit) => limit.inject(hosts),
            Self::Clock(clock) => clock.inject(hosts),
        }
    }

    /// Goes on to what comes after it was held for a while, if anything does.
    ///
    /// # Errors
    /// The system refuses.
    pub fn turn(&self, hosts: &Hosts) -> Result<()> {
        match self {
            // Each member's rules are replaced in one step, so that nobody hears anybody in between.
            Self::Turn(_, then) => lose(hosts, then, 100),
            _ => Ok(()),
        }
    }

    /// Heals it, also after [`Deed::inject`] has failed halfway.
    ///
    /// # Errors
    /// The system refuses, or a member did what it must not do.
    pub async fn heal(&mut self, hosts: &Hosts) -> Result<()> {
        match self {
            Self::Kill(members) => each(members, |member| hosts.member(member).start()),
            Self::Pause(members) => each(members, |member| hosts.member(member).signal(Signal::SIGCONT)),
            Self::Cut(links) | Self::Flap(links) | Self::Lose(links, _) => hear(hosts, links.iter()),
            Self::Turn(first, then) => hear(hosts, first.iter().chain(then.iter())),
            Self::Slow(links, _) => {
                by_hearer(links).into_keys().for_each(|member| hosts.member(member).hear_in_time());
                Ok(())
            }
            Self::PowerLoss(loss) => loss.heal(hosts),
            Self::Disk(trouble) => trouble.heal(hosts),
            Self::Node(trouble) => trouble.heal(hosts).await,
            Self::Flip(flip) => flip.heal(hosts),
            Self::Replace(replace) => replace.heal(hosts).await,
            Self::Guest(guest) => guest.heal(hosts).await,
            Self::Handover(_) => Ok(()),
            Self::Rolling(rolling) => rolling.heal(hosts).await,
            Self::Limit(limit) => limit.heal(hosts),
            Self::Clock(clock) => clock.heal(hosts),
        }
    }
}

/// Members do not hear some of the others, or miss some of what they say.
fn lose(hosts: &Hosts, links: &[Link], percent: u32) -> Result<()> {
    by_hearer(links).iter().try_for_each(|(member, from)| hosts.member(*member).drop_from(hosts, from, percent))
}

/// Members hear everybody again.
fn hear<'a>(hosts: &Hosts, links: impl Iterator<Item = &'a Link>) -> Result<()> {
    let deaf: BTreeSet<usize> = links.map(|link| link.to).collect();
    deaf.into_iter().try_for_each(|member| hosts.member(member).hear_all())
}

fn by_hearer(links: &[Link]) -> BTreeMap<usize, Vec<usize>> {
    let mut hearers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for link in links {
        hearers.entry(link.to).or_default().push(link.from);
    }
    hearers
}

fn each(members: &[usize], deed: impl Fn(usize) -> Result<()>) -> Result<()> {
    members.iter().try_for_each(|member| deed(*member))
}

fn arrows(links: &[Link]) -> String {
    let links = links.iter().map(|link| format!("m{}\u{21f8}m{}", link.from + 1, link.to + 1));
    links.collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Deed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(members) | Self::Pause(members) => write!(out, "{}", names(members)),
            Self::Cut(links) | Self::Flap(links) => write!(out, "{}", arrows(links)),
            Self::Turn(first, then) => write!(out, "{}, then {}", arrows(first), arrows(then)),
            Self::Slow(links, mean) => write!(out, "{} ms on {}", mean.as_millis(), arrows(links)),
            Self::Lose(links, percent) => write!(out, "{percent} % of {}", arrows(links)),
            Self::PowerLoss(loss) => write!(out, "{loss}"),
            Self::Disk(trouble) => write!(out, "{trouble}"),
            Self::Node(trouble) => write!(out, "{trouble}"),
            Self::Flip(flip) => write!(out, "{flip}"),
            Self::Replace(replace) => write!(out, "{replace}"),
            Self::Guest(guest) => write!(out, "{guest}"),
            Self::Handover(handover) => write!(out, "{handover}"),
            Self::Rolling(rolling) => write!(out, "{rolling}"),
            Self::Limit(limit) => write!(out, "{limit}"),
            Self::Clock(clock) => write!(out, "{clock}"),
        }
    }
}
