//! Whether members hold the same: digests of their living data, compared at equal revisions through the cluster's own
//! records.
//!
//! The leader chooses a revision now and then; every member publishes its digest at that revision; every member
//! compares. Who is not with the majority raises CORRUPT and stops serving. While nothing is written, nothing is
//! compared.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, MissedTickBehavior, interval};
use xebec_store_core::{Alarm, AlarmKind, Command, ReadView, Revision};
use xebec_store_disk::{DiskError, Scrub, View};
use xebec_store_raft::{MemberId, blocking};

use crate::context::Context;

/// How often a revision is chosen. A comparison of three members costs four small entries of the log, and none while
/// nothing is written.
const CHOICE_INTERVAL: Duration = Duration::from_secs(5);
/// How often a member looks whether there is something to publish or to compare: all must have done so before the next
/// choice. Costs a few reads.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const CHOICE_NAME: &str = "digest/chosen";
const PREFIX: &str = "digest/member/";

/// A revision at which members compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Choice {
    revision: i64,
}

/// A member's digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    revision: i64,
    digest: u64,
}

/// What a comparison says of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It agrees with all that have published, or not enough have.
    Sound,
    /// Others differ, and are fewer.
    OthersDiffer,
    /// It differs from the majority, or from all with no majority anywhere.
    Differs,
}

/// Judges `own` by what the members have published; absent ones have not published yet.
fn judge(own: u64, published: &[u64], members: usize) -> Verdict {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for digest in published {
        *counts.entry(*digest).or_default() += 1;
    }
    if counts.keys().all(|digest| *digest == own) {
        return Verdict::Sound;
    }
    let majority = members / 2 + 1;
    match counts.iter().find(|(_, count)| **count >= majority) {
        Some((digest, _)) if *digest == own => Verdict::OthersDiffer,
        Some(_) => Verdict::Differs,
        // Nobody can be believed any more.
        None if published.len() == members => Verdict::Differs,
        None => Verdict::Sound,
    }
}

/// What a pass has found.
pub(super) fn explain(scrub: &Scrub) -> String {
    format!(
        "this member's data is corrupt: at revision {} the living data adds up to {:016x}, not to {:016x}",
        scrub.revision, scrub.found, scrub.kept
    )
}

/// Compares for ever, and reads the member's own data through every `pass_interval`, unless that is 0.
pub(super) async fn run(context: Context, pass_interval: Duration) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last_pass, mut last_choice) = (Instant::now(), Instant::now());
    let mut agreeing = 0;
    loop {
        looks.tick().await;
        if context.health.is_corrupt() {
            raise(&context).await;
            continue;
        }
        if !pass_interval.is_zero() && last_pass.elapsed() >= pass_interval {
            pass(&context).await;
            last_pass = Instant::now();
        }
        if last_choice.elapsed() >= CHOICE_INTERVAL {
            choose(&context).await;
            last_choice = Instant::now();
        }
        let view = context.member.keyspace().view();
        let Some(Choice { revision }) = read(&view, CHOICE_NAME) else { continue };
        // A member that started later, or was sent a snapshot, does not know: it is asked again at the next choice.
        let Some(digest) = context.member.keyspace().digest_at(Revision(revision)) else { continue };
        publish(&context, &view, Published { revision, digest }).await;
        let voters = compare(&context, revision, digest);
        if voters > agreeing && voters > 1 {
            tracing::info!(revision, members = voters, "the members hold the same");
        }
        agreeing = agreeing.max(voters);
    }
}

async fn pass(context: &Context) {
    let keyspace = context.member.keyspace().clone();
    match blocking(move || keyspace.scrub()).await {
        Ok(Ok(scrub)) if scrub.kept == scrub.found => {
            tracing::info!(revision = scrub.revision.0, "the living data is what was written");
        }
        Ok(Ok(scrub)) => declare(context, &explain(&scrub)),
        Ok(Err(error @ DiskError::Corrupt { .. })) => declare(context, &error.to_string()),
        Ok(Err(error)) => tracing::warn!(%error, "the living data could not be read through"),
        Err(error) => tracing::warn!(%error, "the living data could not be read through"),
    }
}

async fn choose(context: &Context) {
    let view = context.member.keyspace().view();
    let revision = view.current_revision().0;
    let chosen: Option<Choice> = read(&view, CHOICE_NAME);
    if context.member.leads() && chosen.is_none_or(|choice| choice.revision < revision) {
        record(context, CHOICE_NAME.to_owned(), &Choice { revision }).await;
    }
}

fn member_name(id: MemberId) -> String {
    format!("{PREFIX}{id:016x}")
}

async fn publish(context: &Context, view: &View, own: Published) {
    let name = member_name(context.member.id());
    if read(view, &name) != Some(own) {
        record(context, name, &own).await;
    }
}

/// Answers with how many have published this very digest.
fn compare(context: &Context, revision: i64, own: u64) -> usize {
    let view = context.member.keyspace().view();
    let roster = context.member.roster();
    let voters: Vec<MemberId> = roster.members().iter().filter(|it| !it.is_learner).map(|it| it.id).collect();
    let published: Vec<(MemberId, u64)> = voters
        .iter()
        .filter_map(|id| read::<Published>(&view, &member_name(*id)).map(|it| (*id, it)))
        .filter(|(_, published)| published.revision == revision)
        .map(|(id, published)| (id, published.digest))
        .collect();
    let digests: Vec<u64> = published.iter().map(|(_, digest)| *digest).collect();
    let listed =
        || published.iter().map(|(id, digest)| format!("{id:x}: {digest:016x}")).collect::<Vec<_>>().join(", ");
    match judge(own, &digests, voters.len()) {
        Verdict::Sound => {}
        Verdict::OthersDiffer => {
            tracing::error!(revision, digests = listed(), "another member's data differs from the majority's");
        }
        Verdict::Differs => {
            let reason = format!(
                "this member's data is corrupt: its digest at revision {revision} is {own:016x}, the members have {}",
                listed()
            );
            declare(context, &reason);
        }
    }
    digests.iter().filter(|digest| **digest == own).count()
}

/// From here on this member answers nobody.
fn declare(context: &Context, reason: &str) {
    tracing::error!(member = format!("{:x}", context.member.id()), reason, "stops serving");
    context.health.corrupt().cancel();
}

/// Raises the alarm, as often as it takes.
async fn raise(context: &Context) {
    let alarm = Alarm { member: context.member.id(), kind: AlarmKind::Corrupt };
    if context.member.keyspace().view().alarms().contains(&alarm) {
        return;
    }
    if let Err(error) = context.member.propose(Command::AlarmActivate(alarm)).await {
        tracing::warn!(%error, "the CORRUPT alarm cannot be raised yet");
    }
}

fn read<T: DeserializeOwned>(view: &View, name: &str) -> Option<T> {
    view.cluster_record(name).ok().flatten().and_then(|value| serde_json::from_slice(&value).ok())
}

async fn record(context: &Context, name: String, value: &impl Serialize) {
    let Ok(value) = serde_json::to_vec(value) else { return };
    let command = Command::SetClusterRecord { name, value: Some(value.into()) };
    if let Err(error) = context.member.propose(command).await {
        tracing::debug!(%error, "digests cannot be compared yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_with_the_majority_differs() {
        assert_eq!(judge(1, &[1, 1, 1], 3), Verdict::Sound);
        assert_eq!(judge(2, &[1, 1, 2], 3), Verdict::Differs);
        assert_eq!(judge(1, &[1, 1, 2], 3), Verdict::OthersDiffer);
        assert_eq!(judge(1, &[1, 2], 3), Verdict::Sound, "the third has not published yet");
        assert_eq!(judge(1, &[1, 2, 3], 3), Verdict::Differs, "nobody can be believed");
        assert_eq!(judge(1, &[1, 2], 2), Verdict::Differs);
        assert_eq!(judge(1, &[], 3), Verdict::Sound);
    }
}
