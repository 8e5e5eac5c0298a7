//! Simple tokens: random words that the cluster remembers the hashes of.
//!
//! etcd gives the token itself to every member through the log, and each member ends it by its own clock. Here the log
//! has the hash, and a deadline on the cluster's clock as for a lease: a token is good at every member, after a change of
//! leader, and after a restart, and nobody who reads a disk can use it. Use renews it through the log, seldom; the leader
//! ends it when its time is over.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tonic::Status;
use xebec_store_core::{
    ClusterTime, Command, ReadView,
    auth::{AuthCommand, TokenHash},
};
use xebec_store_disk::View;
use xebec_store_raft::Member;

use super::options::TOKEN_TTL_SECONDS_DEFAULT;
use crate::context::Context;

/// Letters in a token: 32 of 52 are 182 bits.
const TOKEN_LETTERS: usize = 32;
/// A token in use is renewed so many times in its life, by each member that sees it.
const RENEWALS_PER_LIFE: u32 = 4;
/// How often the leader looks for tokens whose time is over. The cluster's clock must be read more often than
/// `CLOCK_STEP_MILLIS_MAX`.
const EXPIRY_TICK: Duration = Duration::from_millis(500);

/// This member's hand on simple tokens.
#[derive(Debug)]
pub(super) struct SimpleTokens {
    ttl: Duration,
    /// When this member last issued or renewed a token. Entries without a living token are dropped as time goes by.
    renewed: Mutex<HashMap<TokenHash, Instant>>,
}

impl SimpleTokens {
    /// 0 is the default, as in etcd.
    pub fn new(ttl_seconds: u64) -> Self {
        let ttl_seconds = if ttl_seconds == 0 { TOKEN_TTL_SECONDS_DEFAULT } else { ttl_seconds };
        Self { ttl: Duration::from_secs(ttl_seconds), renewed: Mutex::default() }
    }

    fn ttl_millis(&self) -> u64 {
        u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)
    }

    /// A new token, and the command that makes it good.
    pub fn issue(&self, user: &str, checked_revision: u64) -> Result<(String, Command), Status> {
        let token = random_word()?;
        let hash = hash(&token);
        self.renewed.lock().insert(hash, Instant::now());
        let command = AuthCommand::Authenticate {
            user: user.to_owned(),
            checked_revision,
            token: hash,
            ttl_millis: self.ttl_millis(),
            // The leader stamps the time.
            now: ClusterTime::default(),
        };
        Ok((token, Command::Auth(command)))
    }

    /// Whose token this is, as `view` knows it. Renews it, if that is due.
    pub fn user(&self, context: &Context, view: &View, token: &str) -> Option<String> {
        let hash = hash(token);
        let user = view.auth().token(&hash)?.user.clone();
        if self.is_due(hash, view) {
            let now = ClusterTime::default();
            let renewal = AuthCommand::RenewToken { token: hash, ttl_millis: self.ttl_millis(), now };
            let member = context.member.clone();
            tokio::spawn(async move {
                if let Err(error) = member.propose(Command::Auth(renewal)).await {
                    tracing::debug!(%error, ?hash, "a token could not be renewed");
                }
            });
        }
        Some(user)
    }

    /// Whether a renewal is due. Notes it as done: who uses the token next need not ask again.
    fn is_due(&self, hash: TokenHash, view: &View) -> bool {
        let now = Instant::now();
        let mut renewed = self.renewed.lock();
        if renewed.get(&hash).is_some_and(|at| now.duration_since(*at) < self.ttl / RENEWALS_PER_LIFE) {
            return false;
        }
        renewed.insert(hash, now);
        if renewed.len() > 2 * view.auth().token_count() + 1 {
            renewed.retain(|hash, _| view.auth().token(hash).is_some());
        }
        true
    }
}

fn hash(token: &str) -> TokenHash {
    TokenHash(Sha256::digest(token).into())
}

fn random_word() -> Result<String, Status> {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    // Bytes from here on would make some letters likelier than others.
    const FAIR_BYTES: u8 = 52 * 4;
    let mut word = String::with_capacity(TOKEN_LETTERS);
    let mut bytes = [0; TOKEN_LETTERS];
    while word.len() < TOKEN_LETTERS {
        SystemRandom::new().fill(&mut bytes).map_err(|_| Status::internal("etcdserver: no randomness"))?;
        let fair = bytes.iter().filter(|byte| **byte < FAIR_BYTES).map(|byte| LETTERS[usize::from(byte % 52)]);
        word.extend(fair.map(char::from).take(TOKEN_LETTERS - word.len()));
    }
    Ok(word)
}

/// Ends tokens whose time is over, while this member leads. Runs until the member stops.
pub(crate) async fn expire_tokens(member: Member) {
    loop {
        tokio::select! {
            () = sleep(EXPIRY_TICK) => {}
            () = member.stopped().cancelled() => return,
        }
        if member.keyspace().view().auth().token_count() == 0 {
            continue;
        }
        let Some(now) = member.cluster_now() else {
            continue;
        };
        if !member.keyspace().view().auth().has_expired_tokens(now) {
            continue;
        }
        // The leader stamps the time, which is later than `now`.
        if let Err(error) = member.propose(Command::Auth(AuthCommand::ExpireTokens { now })).await {
            tracing::debug!(%error, "expired tokens could not be ended yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let (one, other) = (random_word().unwrap(), random_word().unwrap());
        assert_eq!(one.len(), TOKEN_LETTERS);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphabetic()));
        assert_ne!(one, other);
        assert_ne!(hash(&one), hash(&other));
    }
}
