//! Members come and go while everybody works.

use std::{fmt, future::Future, time::Duration};

use anyhow::{Context as _, Result, bail};
use rand::{RngExt as _, rngs::StdRng};
use tokio::time::Instant;

use super::{Deed, Scene};
use crate::{
    etcd::{Etcd, Failure},
    stores::{Hosts, Member},
};

/// A change of membership must succeed within this time: an election, and the catching up of a learner, included.
const CHANGE_MAX: Duration = Duration::from_secs(40);
/// One attempt takes at most this long.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
/// Between attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);
/// How etcd answers to the removal of a member that is not there (etcd `api/v3rpc/rpctypes/error.go`).
const NOT_FOUND: &str = "member not found";

/// A member is removed for good, and comes back without its data, as another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replace {
    /// Whose host.
    pub member: usize,
    is_out: bool,
}

/// A fourth member joins as a learner, votes for a while, and leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    id: Option<u64>,
}

/// Leadership is handed over, as an operator would before maintenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// From whom; whoever leads, if that is not it any more.
    pub from: usize,
    /// To whom.
    pub to: usize,
}

/// A member by chance.
pub(super) fn replace(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Replace(Replace { member: rng.random_range(0..scene.members), is_out: false })
}

/// The leader.
pub(super) fn replace_leader(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Replace(Replace { member: scene.leader_or_any(rng), is_out: false })
}

/// On the host that is spare.
pub(super) fn guest(_: Scene, _: &mut StdRng) -> Deed {
    Deed::Guest(Guest { id: None })
}

/// To another one.
pub(super) fn handover(scene: Scene, rng: &mut StdRng) -> Deed {
    let from = scene.leader_or_any(rng);
    Deed::Handover(Handover { from, to: (from + rng.random_range(1..scene.members)) % scene.members })
}

impl Replace {
    pub(super) async fn inject(&mut self, hosts: &Hosts) -> Result<()> {
        let member = hosts.member(self.member);
        let others = others(hosts, self.member)?;
        let id = id_of(&others, member).await?;
        remove(&others, id).await.with_context(|| format!("cannot remove {}", member.name()))?;
        member.kill()?;
        member.wipe()?;
        self.is_out = true;
        Ok(())
    }

    pub(super) async fn heal(&mut self, hosts: &Hosts) -> Result<()> {
        let member = hosts.member(self.member);
        if self.is_out {
            join(&others(hosts, self.member)?, member, false).await?;
        }
        member.start()?;
        serving(member).await
    }
}

impl Guest {
    pub(super) async fn inject(&mut self, hosts: &Hosts) -> Result<()> {
        let guest = hosts.spare()?;
        let others = others(hosts, usize::MAX)?;
        let id = join(&others, guest, true).await?;
        self.id = Some(id);
        guest.start()?;
        let promote = |etcd: Etcd| async move { etcd.member_promote(id).await };
        ask(&others, "promote the learner", promote).await.map(drop)
    }

    pub(super) async fn heal(&mut self, hosts: &Hosts) -> Result<()> {
        let guest = hosts.spare()?;
        let removed = match self.id.take() {
            Some(id) => remove(&others(hosts, usize::MAX)?, id).await,
            None => Ok(()),
        };
        guest.kill()?;
        guest.wipe()?;
        removed
    }
}

impl Handover {
    pub(super) async fn inject(&self, hosts: &Hosts) -> Result<()> {
        let etcd = hosts.member(self.from).client()?;
        let id = id_of(&others(hosts, usize::MAX)?, hosts.member(self.to)).await?;
        // It may have lost its leadership meanwhile, or the other may lag: then there is nothing to hand over.
        match tokio::time::timeout(ATTEMPT_MAX, etcd.move_leader(id)).await {
            Ok(Ok(()) | Err(_)) | Err(_) => Ok(()),
        }
    }
}

/// Clients of all members but one.
fn others(hosts: &Hosts, but: usize) -> Result<Vec<Etcd>> {
    let members = hosts.members().iter().enumerate().filter(|(index, _)| *index != but);
    members.map(|(_, member)| member.client()).collect()
}

async fn id_of(others: &[Etcd], member: &Member) -> Result<u64> {
    let list = ask(others, "list the members", |etcd: Etcd| async move { etcd.members().await }).await?;
    let found = list.iter().find(|listed| listed.name == member.name());
    found.map(|listed| listed.id).with_context(|| format!("{} is no member", member.name()))
}

/// A new member on an empty host: it will join when it is started. Its id.
async fn join(others: &[Etcd], member: &Member, learner: bool) -> Result<u64> {
    let url = member.peer_url();
    let listed = ask(others, "list the members", |etcd: Etcd| async move { etcd.members().await }).await?;
    // An attempt whose answer was lost may have succeeded.
    let mut added = listed.iter().find(|listed| listed.peer_ur_ls.contains(&url)).map(|listed| listed.id);
    if added.is_none() {
        let add = |etcd: Etcd| {
            let url = url.clone();
            async move {
                match etcd.member_add(&url, learner).await {
                    Err(Failure::Refused(text)) if text.contains("Peer URLs already exists") => {
                        let listed = etcd.members().await?;
                        let found = listed.iter().find(|listed| listed.peer_ur_ls.contains(&url));
                        found.map(|listed| listed.id).ok_or(Failure::Refused(text))
                    }
                    other => other,
                }
            }
        };
        added = Some(ask(others, "add a member", add).await.with_context(|| member.name().to_owned())?);
    }
    let listed = ask(others, "list the members", |etcd: Etcd| async move { etcd.members().await }).await?;
    let cluster = listed.iter().flat_map(|listed| {
        let name = if listed.name.is_empty() { member.name() } else { listed.name.as_str() };
        listed.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
    });
    member.joins(&cluster.collect::<Vec<_>>().join(","));
    added.context("the member was not added")
}

async fn remove(others: &[Etcd], id: u64) -> Result<()> {
    let remove = |etcd: Etcd| async move {
        match etcd.member_remove(id).await {
            // An attempt whose answer was lost has succeeded.
            Err(Failure::Refused(text)) if text.contains(NOT_FOUND) => Ok(()),
            other => other,
        }
    };
    ask(others, "remove a member", remove).await
}

/// Waits until a member answers linearizable reads.
pub(super) async fn serving(member: &Member) -> Result<()> {
    let get = |etcd: Etcd| async move { etcd.get("\0").await.map(drop) };
    ask(&[member.client()?], "read", get).await.with_context(|| format!("{} does not serve", member.name()))
}

/// Asks one member after the other until one does it.
async fn ask<T, F>(members: &[Etcd], what: &str, work: impl Fn(Etcd) -> F) -> Result<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    let deadline = Instant::now() + CHANGE_MAX;
    let mut last = String::new();
    for etcd in members.iter().cycle() {
        match tokio::time::timeout(ATTEMPT_MAX, work(etcd.clone())).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Failure::Refused(text) | Failure::Unknown(text))) => last = text,
            Err(_) => "no answer in time".clone_into(&mut last),
        }
        if Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(ATTEMPT_PAUSE).await;
    }
    bail!("cannot {what} within {} s: {last}", CHANGE_MAX.as_secs())
}

impl fmt::Display for Replace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "m{}", self.member + 1)
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "m4")
    }
}

impl fmt::Display for Handover {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "m{} to m{}", self.from + 1, self.to + 1)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[tokio::test]
    async fn whoever_can_does_it() {
        let members: Vec<Etcd> =
            ["http://127.0.0.1:1", "http://127.0.0.1:2"].iter().map(|url| Etcd::new(url).unwrap()).collect();
        let asked = std::sync::atomic::AtomicU32::new(0);
        let work = |_| {
            let number = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move { if number == 2 { Ok(number) } else { Err(Failure::Refused("not I".to_owned())) } }
        };
        assert_eq!(ask(&members, "count", work).await.unwrap(), 2);
    }

    #[test]
    fn leadership_goes_to_somebody_else() {
        let rng = &mut StdRng::seed_from_u64(1);
        for _ in 0..30 {
            let scene = Scene::of_store(3, Some(1));
            let Deed::Handover(handover) = handover(scene, rng) else { panic!("no handover") };
            assert!(handover.from == 1 && handover.to != 1 && handover.to < 3);
        }
    }
}
