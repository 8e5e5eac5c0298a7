//! What a fault does, and how it is undone.

use std::{collections::BTreeMap, fmt};

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{DiskTrouble, Flip, PowerLoss, names};
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
    /// Power; undone by a new start from what is left.
    PowerLoss(PowerLoss),
    /// Disks; undone by good ones.
    Disk(DiskTrouble),
    /// A bit; undone by flipping it back.
    Flip(Flip),
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
            Self::Cut(links) | Self::Flap(links) => {
                let mut deaf: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
                for link in links {
                    deaf.entry(link.to).or_default().push(link.from);
                }
                deaf.iter().try_for_each(|(member, from)| hosts.member(*member).drop_from(hosts, from))
            }
            Self::PowerLoss(loss) => loss.inject(hosts),
            Self::Disk(trouble) => trouble.inject(hosts),
            Self::Flip(flip) => flip.inject(hosts),
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
            Self::Cut(links) | Self::Flap(links) => {
                let deaf: std::collections::BTreeSet<usize> = links.iter().map(|link| link.to).collect();
                deaf.into_iter().try_for_each(|member| hosts.member(member).hear_all())
            }
            Self::PowerLoss(loss) => loss.heal(hosts),
            Self::Disk(trouble) => trouble.heal(hosts),
            Self::Flip(flip) => flip.heal(hosts),
        }
    }
}

fn each(members: &[usize], deed: impl Fn(usize) -> Result<()>) -> Result<()> {
    members.iter().try_for_each(|member| deed(*member))
}

impl fmt::Display for Deed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(members) | Self::Pause(members) => write!(out, "{}", names(members)),
            Self::Cut(links) | Self::Flap(links) => {
                let links: Vec<_> =
                    links.iter().map(|link| format!("m{}\u{21f8}m{}", link.from + 1, link.to + 1)).collect();
                write!(out, "{}", links.join(" "))
            }
            Self::PowerLoss(loss) => write!(out, "{loss}"),
            Self::Disk(trouble) => write!(out, "{trouble}"),
            Self::Flip(flip) => write!(out, "{flip}"),
        }
    }
}
