//! How a member without memory comes into a cluster: it begins one with its peers, or is let in by the one there is.
//!
//! The hazard: Raft loses acknowledged writes if a member votes after it has forgotten. Three members, a write
//! acknowledged by A and C, A's disk wiped: A starts again with the same flags, gets the same id, votes for B, which lags
//! behind, and C's copy of the write is overwritten. (Ongaro, "Consensus: Bridging Theory and Practice", section 11.2:
//! state lost is a member lost; etcd checks only whether a reachable peer knows client URLs of the id, etcd
//! `server/etcdserver/bootstrap.go`, and starts regardless when no peer answers.)
//!
//! The rule here: an id stands for one data directory, told by its incarnation. Before a member without memory votes or
//! acknowledges anything (its peer services refuse Raft's calls until then, see `CheckHeaders`), either
//!
//! - it has heard from its peers that this is a beginning: they are without memory as well, or began with this very
//!   incarnation among their witnesses. All of them at once, or after [`BEGIN_GRACE`] a majority; or
//! - the cluster that exists has committed "this id is this incarnation" ([`RosterService::enroll`]), by a quorum that
//!   does without this member. A record of another incarnation refuses it for good.
//!
//! The first members' incarnations are recorded by the first of them that can ([`Member::publish`]); until then each
//! keeps its witnesses on disk and answers from those. What remains is the loss of a majority's disks at once, which no
//! protocol can tell from a beginning, and which Raft does not promise to survive.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status};
use xebec_proto::xebec::peer::v1::{
    EnrollRequest, EnrollResponse, GreetRequest, GreetResponse, MemberEntry, MembersRequest, MembersResponse,
    roster_client::RosterClient, roster_server::Roster as RosterRpc,
};
use xebec_store_core::Command;

use crate::{
    blocking::blocking,
    departure::REMOVED,
    error::{RequestFailure, StartError},
    identity::{Identity, Passport, Stage},
    member::Member,
    peers::{Dialer, PeerTransport},
    roster::{self, MemberInfo, Roster},
    types::{MemberId, MemberNode},
};

/// How long a beginning waits for all first members before a majority of them is enough.
const BEGIN_GRACE: Duration = Duration::from_secs(3);
/// Pause between two rounds of questions.
const ROUND_PAUSE: Duration = Duration::from_millis(50);
/// How long one question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a quorum may take to enroll a member, a change of leader included.
const ENROLL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a member that waits says so.
const SAY_INTERVAL: Duration = Duration::from_secs(10);

/// A first member that is not this one: its id and where it is reached.
type Peer = (MemberId, Vec<String>);

fn dial(dialer: &Dialer, urls: &[String]) -> Result<RosterClient<PeerTransport>, String> {
    dialer(urls).map(RosterClient::new)
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, String> {
    match timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// Asks a member what it knows of this one.
pub(crate) async fn greet(dialer: &Dialer, urls: &[String], passport: &Passport) -> Result<GreetResponse, String> {
    let mut client = dial(dialer, urls)?;
    let request = GreetRequest {
        cluster: passport.identity.cluster,
        member: passport.identity.member,
        incarnation: passport.incarnation,
    };
    within(ANSWER_TIMEOUT, client.greet(request)).await
}

/// What a member that joins learns: the cluster's id, its own, and all members.
pub(crate) struct Joined {
    pub identity: Identity,
    pub members: BTreeMap<MemberId, MemberNode>,
}

/// Finds the cluster that `--initial-cluster` describes and this member's place in it
/// (etcd `ValidateClusterAndAssignIDs`).
pub(crate) async fn find_cluster(
    dialer: &Dialer,
    name: &str,
    initial: &BTreeMap<String, Vec<String>>,
) -> Result<Joined, StartError> {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    let own = initial.get(name).map(|urls| sorted(urls)).unwrap_or_default();
    let others: Vec<&Vec<String>> = initial.iter().filter(|(other, _)| *other != name).map(|(_, urls)| urls).collect();
    let answers = join_all(others.iter().map(|urls| async {
        let mut client = dial(dialer, urls)?;
        within(ANSWER_TIMEOUT, client.members(MembersRequest {})).await
    }));
    let mut reasons = Vec::new();
    for answer in answers.await {
        match answer {
            Ok(answer) => return place(&answer, &own, initial.values().map(|urls| sorted(urls)).collect()),
            Err(reason) => reasons.push(reason),
        }
    }
    let reasons = if reasons.is_empty() { "no peer is named".to_owned() } else { reasons.join("; ") };
    Err(StartError::Config(format!("cannot fetch cluster info from peer urls: {reasons}")))
}

fn place(cluster: &MembersResponse, own: &[String], mut flags: BTreeSet<Vec<String>>) -> Result<Joined, StartError> {
    let refused = |reason: String| StartError::Config(format!("error validating peerURLs: {reason}"));
    if cluster.members.len() != flags.len() {
        let (there, here) = (cluster.members.len(), flags.len());
        return Err(refused(format!("member count is unequal: the cluster has {there}, --initial-cluster {here}")));
    }
    for member in &cluster.members {
        if !flags.remove(&member.peer_urls) {
            let (id, urls) = (member.id, member.peer_urls.join(","));
            return Err(refused(format!("PeerURLs: no match found for existing member ({id:x}, {urls})")));
        }
    }
    let member = cluster.members.iter().find(|member| member.peer_urls == own);
    let member =
        member.ok_or_else(|| refused(format!("unmatched member while checking PeerURLs ({})", own.join(","))))?;
    let node = |member: &MemberEntry| MemberNode {
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        is_voter_to_be: false,
    };
    Ok(Joined {
        identity: Identity { member: member.id, cluster: cluster.cluster },
        members: cluster.members.iter().map(|member| (member.id, node(member))).collect(),
    })
}

/// What a round of questions came to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// This is a beginning: these were there.
    Begin(BTreeMap<MemberId, u64>),
    /// There is a cluster; it has to let this member in.
    Enroll(MemberId),
    /// This id has had another memory, or is removed.
    Refuse(String),
    /// Nobody can tell yet.
    Wait,
}

/// Judges the answers of the other first members.
fn judge(passport: &Passport, peers: usize, answers: &[(MemberId, GreetResponse)], is_patient: bool) -> Verdict {
    let answers: Vec<_> = answers
        .iter()
        .filter(|(id, answer)| answer.cluster == passport.identity.cluster && answer.member == *id)
        .collect();
    if answers.iter().any(|(_, answer)| answer.is_removed) {
        return Verdict::Refuse(REMOVED.to_owned());
    }
    let is_known_otherwise = |known: u64| known != 0 && known != passport.incarnation;
    if answers.iter().any(|(_, answer)| is_known_otherwise(answer.known_incarnation)) {
        return Verdict::Refuse(already_bootstrapped(passport.identity.member));
    }
    let stranger = answers.iter().find(|(_, answer)| answer.takes_part && answer.known_incarnation == 0);
    if let Some((id, _)) = stranger {
        return Verdict::Enroll(*id);
    }
    let all = peers + 1;
    let here = answers.len() + 1;
    if here == all || (!is_patient && here > all / 2) {
        return Verdict::Begin(answers.iter().map(|(id, answer)| (*id, answer.incarnation)).collect());
    }
    Verdict::Wait
}

fn already_bootstrapped(id: MemberId) -> String {
    format!(
        "member {id:x} has already been bootstrapped: its data directory was lost or replaced, and a member that has \
         forgotten its votes could cost acknowledged writes; remove it from the cluster and add it again"
    )
}

impl Member {
    /// Takes part from now on, if that is not so already: see the module's description. Waits for as long as nobody can
    /// tell whether this is a beginning. The peer port has to be served meanwhile.
    ///
    /// # Errors
    /// [`StartError::Config`] if this member must not take part.
    pub async fn enter(&self, is_new_cluster: bool) -> Result<(), StartError> {
        if self.papers().takes_part() {
            return Ok(());
        }
        let first = self.first_members().clone();
        let others = first.iter().filter(|(id, _)| **id != self.id());
        let peers: Vec<Peer> = others.map(|(id, node)| (*id, node.peer_urls.clone())).collect();
        let began_at = Instant::now();
        let mut said_at = began_at;
        loop {
            let passport = self.papers().passport();
            let answers = self.ask_all(&peers, &passport).await;
            let is_patient = began_at.elapsed() < BEGIN_GRACE;
            let verdict = match judge(&passport, peers.len(), &answers, is_patient) {
                Verdict::Begin(_) | Verdict::Wait if !is_new_cluster => {
                    // Whoever joins never begins: any member that takes part may let it in.
                    answers
                        .iter()
                        .find(|(_, answer)| answer.takes_part)
                        .map_or(Verdict::Wait, |(id, _)| Verdict::Enroll(*id))
                }
                verdict => verdict,
            };
            match verdict {
                Verdict::Begin(witnesses) => return self.begin(witnesses, first).await,
                Verdict::Refuse(reason) => return Err(StartError::Config(reason)),
                Verdict::Enroll(by) if self.enroll_at(&peers, by, &passport).await? => {
                    return self.take_part(None).await;
                }
                Verdict::Enroll(_) | Verdict::Wait => {}
            }
            if said_at.elapsed() > SAY_INTERVAL {
                said_at = Instant::now();
                let heard = answers.len();
                tracing::warn!(heard, of = peers.len(), "waiting for peers: this member has no data of its own");
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    async fn ask_all(&self, peers: &[Peer], passport: &Passport) -> Vec<(MemberId, GreetResponse)> {
        let answers = join_all(peers.iter().map(|(id, urls)| async move {
            match greet(self.dialer(), urls, passport).await {
                Ok(answer) if answer.cluster != passport.identity.cluster => {
                    let (theirs, ours) = (answer.cluster, passport.identity.cluster);
                    tracing::warn!(?urls, "cluster ID mismatch: the peer's is {theirs:x}, this member's {ours:x}");
                    None
                }
                Ok(answer) => Some((*id, answer)),
                Err(error) => {
                    tracing::debug!(?urls, error, "a peer does not answer");
                    None
                }
            }
        }));
        answers.await.into_iter().flatten().collect()
    }

    /// Begins the cluster. The witnesses are on disk before anything can be voted or acknowledged.
    async fn begin(
        &self,
        witnesses: BTreeMap<MemberId, u64>,
        first: BTreeMap<MemberId, MemberNode>,
    ) -> Result<(), StartError> {
        self.take_part(Some(witnesses)).await?;
        self.initialize(first).await.map_err(StartError::Raft)
    }

    async fn take_part(&self, witnesses: Option<BTreeMap<MemberId, u64>>) -> Result<(), StartError> {
        let member = self.clone();
        let advanced = blocking(move || member.papers().advance(Stage::TakesPart, witnesses)).await;
        advanced.map_err(|error| StartError::Raft(error.to_string()))?
    }

    /// Asks a member of the cluster to let this one in. False: it could not, for now.
    async fn enroll_at(&self, peers: &[Peer], by: MemberId, passport: &Passport) -> Result<bool, StartError> {
        let Some((_, urls)) = peers.iter().find(|(id, _)| *id == by) else {
            return Ok(false);
        };
        let answer = async {
            let mut client = dial(self.dialer(), urls)?;
            let request = EnrollRequest {
                cluster: passport.identity.cluster,
                member: passport.identity.member,
                incarnation: passport.incarnation,
            };
            within(ENROLL_TIMEOUT, client.enroll(request)).await
        };
        match answer.await {
            Ok(answer) if answer.incarnation == passport.incarnation => Ok(true),
            Ok(_) => Err(StartError::Config(already_bootstrapped(self.id()))),
            Err(reason) => {
                tracing::info!(reason, "the cluster has not let this member in yet");
                Ok(false)
            }
        }
    }

    /// The incarnations that this member knows and the cluster has not recorded.
    pub(crate) fn known_incarnations<'a>(&self, roster: &'a Roster) -> impl Iterator<Item = Command> + use<'a> {
        let passport = self.papers().passport();
        let own = (passport.identity.member, passport.incarnation);
        passport
            .witnesses
            .into_iter()
            .chain([own])
            .filter(|(id, _)| roster.member(*id).is_some() && roster.incarnation(*id).is_none())
            .map(|(id, incarnation)| roster::incarnation_command(id, incarnation))
    }

    /// With which data directory this member has seen another one.
    fn incarnation_seen(&self, id: MemberId) -> Option<u64> {
        self.roster().incarnation(id).or_else(|| self.papers().passport().witnesses.get(&id).copied())
    }

    /// Records an id's data directory, unless it has one: which it has afterwards.
    async fn enroll(&self, id: MemberId, incarnation: u64) -> Result<u64, RequestFailure> {
        self.linearizable().await?;
        if let Some(known) = self.incarnation_seen(id) {
            return Ok(known);
        }
        if self.roster().member(id).is_none() {
            return Err(RequestFailure::UnknownMember(id));
        }
        // Two data directories of one id that ask at the same time are told apart by what was written last.
        if let Err(refusal) = self.propose(roster::incarnation_command(id, incarnation)).await? {
            return Err(RequestFailure::Malformed(refusal.to_string()));
        }
        self.linearizable().await?;
        self.roster().incarnation(id).ok_or(RequestFailure::LeaderChanged)
    }
}

/// The peer service that is answered before and beside membership.
pub(crate) struct RosterService(pub Member);

impl RosterService {
    fn check_cluster(&self, cluster: u64) -> Result<(), Status> {
        if cluster == self.0.cluster_id() && self.0.papers().takes_part() {
            return Ok(());
        }
        Err(Status::failed_precondition("cluster ID mismatch, or this member does not take part yet"))
    }
}

fn entry(member: &MemberInfo) -> MemberEntry {
    MemberEntry {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

#[tonic::async_trait]
impl RosterRpc for RosterService {
    async fn members(&self, _: Request<MembersRequest>) -> Result<Response<MembersResponse>, Status> {
        self.check_cluster(self.0.cluster_id())?;
        // What an added member needs to see is committed; a member that cannot confirm that may still be right.
        if let Ok(Err(error)) = timeout(ANSWER_TIMEOUT / 2, self.0.linearizable()).await {
            tracing::debug!(%error, "answering about the members without a quorum");
        }
        let roster = self.0.roster();
        if roster.members().is_empty() {
            return Err(Status::unavailable("this member has no membership yet"));
        }
        let members = roster.members().iter().map(entry).collect();
        Ok(Response::new(MembersResponse { cluster: self.0.cluster_id(), members }))
    }

    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<GreetResponse>, Status> {
        let caller = request.into_inner();
        let passport = self.0.papers().passport();
        let is_ours = caller.cluster == passport.identity.cluster;
        Ok(Response::new(GreetResponse {
            cluster: passport.identity.cluster,
            member: passport.identity.member,
            incarnation: passport.incarnation,
            takes_part: passport.stage == Stage::TakesPart,
            known_incarnation: self.0.incarnation_seen(caller.member).filter(|_| is_ours).unwrap_or(0),
            is_removed: is_ours && self.0.roster().is_removed(caller.member),
        }))
    }

    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let request = request.into_inner();
        self.check_cluster(request.cluster)?;
        let enrolled = self.0.enroll(request.member, request.incarnation).await;
        let incarnation = enrolled.map_err(|failure| Status::unavailable(failure.to_string()))?;
        Ok(Response::new(EnrollResponse { incarnation }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passport() -> Passport {
        Passport { incarnation: 10, ..Passport::new(Identity { member: 1, cluster: 7 }) }
    }

    fn answer(member: MemberId, takes_part: bool, known: u64) -> (MemberId, GreetResponse) {
        let incarnation = member * 100;
        let answer =
            GreetResponse { cluster: 7, member, incarnation, takes_part, known_incarnation: known, is_removed: false };
        (member, answer)
    }

    #[test]
    fn all_first_members_begin_at_once_and_a_majority_after_a_while() {
        let both = [answer(2, false, 0), answer(3, false, 0)];
        assert_eq!(judge(&passport(), 2, &both, true), Verdict::Begin([(2, 200), (3, 300)].into()));
        assert_eq!(judge(&passport(), 2, &both[..1], true), Verdict::Wait);
        assert_eq!(judge(&passport(), 2, &both[..1], false), Verdict::Begin([(2, 200)].into()));
        assert_eq!(judge(&passport(), 2, &[], false), Verdict::Wait);
        assert_eq!(judge(&passport(), 0, &[], true), Verdict::Begin(BTreeMap::new()));
    }

    #[test]
    fn a_peer_that_began_with_this_incarnation_among_its_witnesses_counts_as_a_beginning() {
        let answers = [answer(2, true, 10), answer(3, false, 0)];
        assert!(matches!(judge(&passport(), 2, &answers, true), Verdict::Begin(_)));
    }

    #[test]
    fn a_peer_that_knows_another_incarnation_refuses_whatever_the_others_say() {
        let answers = [answer(2, false, 0), answer(3, true, 11)];
        assert!(matches!(judge(&passport(), 2, &answers, false), Verdict::Refuse(_)));
    }

    #[test]
    fn where_a_cluster_exists_it_has_to_let_the_member_in() {
        let answers = [answer(2, false, 0), answer(3, true, 0)];
        assert_eq!(judge(&passport(), 2, &answers, false), Verdict::Enroll(3));
    }

    #[test]
    fn members_of_another_cluster_do_not_count() {
        let (id, mut other) = answer(2, false, 0);
        other.cluster = 8;
        assert_eq!(judge(&passport(), 2, &[(id, other)], false), Verdict::Wait);
    }
}
