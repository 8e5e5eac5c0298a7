//! One client of a workload.

use std::{future::Future, sync::Arc, time::Duration};

use rand::{RngExt as _, rngs::StdRng};
use tokio_util::sync::CancellationToken;
use xebec_chaos_core::history::{Action, Answer, Event};

use crate::{
    etcd::{Etcd, Failure},
    run::Recorder,
};

/// A request that is not answered for so long counts as unknown.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failure a client waits this long before it turns to the next member.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);
/// Of a thousand requests so many go to another member than the one before.
const MOVES_PERMILLE: u32 = 5;

/// A client: it asks one thing at a time and records what it was told.
pub struct Client<M = Etcd> {
    /// Its number among the clients of its workload.
    pub index: u32,
    /// How many they are.
    pub count: u32,
    /// Its own chance.
    pub rng: StdRng,
    /// Ends it.
    pub stop: CancellationToken,
    /// Keys of this run begin with this.
    pub prefix: String,
    /// What everybody saw.
    pub recorder: Arc<Recorder>,
    process: u32,
    members: Arc<Vec<M>>,
    member: usize,
    made: i64,
}

impl Client {
    /// The member it talks to.
    pub fn etcd(&self) -> Etcd {
        self.at()
    }
}

impl<M: Clone> Client<M> {
    /// A client that begins at the member of its number.
    pub fn new(
        (index, count): (u32, u32),
        rng: StdRng,
        recorder: Arc<Recorder>,
        members: Arc<Vec<M>>,
        prefix: &str,
        stop: CancellationToken,
    ) -> Self {
        let process = recorder.new_process();
        let member = process as usize % members.len();
        Self { index, count, rng, stop, prefix: prefix.to_owned(), recorder, process, members, member, made: 0 }
    }

    /// Whom it talks to.
    pub fn at(&self) -> M {
        self.members[self.member].clone()
    }

    /// Somebody else than it talks to, if there is anybody.
    pub fn other(&self) -> M {
        self.members[(self.member + 1) % self.members.len()].clone()
    }

    /// Turns to the next member.
    pub fn move_on(&mut self) {
        self.member = (self.member + 1) % self.members.len();
    }

    /// A key of this run.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A value that nobody else makes in this run.
    pub fn new_value(&mut self) -> i64 {
        self.made += 1;
        i64::from(self.process) * 10_000_000 + self.made
    }

    /// Whether to go on.
    pub fn goes_on(&self) -> bool {
        !self.stop.is_cancelled()
    }

    /// Records a request and its outcome; the answer, if there was one. A request that is not answered within `timeout`
    /// has an unknown outcome.
    pub async fn perform_within(
        &mut self,
        timeout: Duration,
        action: Action,
        work: impl Future<Output = Result<Answer, Failure>>,
    ) -> Option<Answer> {
        let (process, recorder) = (self.process, Arc::clone(&self.recorder));
        recorder.record(&Event::Invoke { time: recorder.now(), process, op: action });
        let outcome = match tokio::time::timeout(timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Unknown("no answer in time".to_owned())),
        };
        let time = recorder.now();
        let (event, answer) = match outcome {
            Ok(result) => (Event::Ok { time, process, result: result.clone() }, Some(result)),
            Err(Failure::Refused(error)) => (Event::Fail { time, process, error }, None),
            Err(Failure::Unknown(error)) => (Event::Info { time, process, error }, None),
        };
        recorder.record(&event);
        if answer.is_none() {
            self.move_on();
            tokio::time::sleep(FAILURE_PAUSE).await;
        } else if self.rng.random_range(0..1_000) < MOVES_PERMILLE {
            self.move_on();
        }
        answer
    }

    /// As [`Client::perform_within`], within [`REQUEST_TIMEOUT`].
    pub async fn perform(
        &mut self,
        action: Action,
        work: impl Future<Output = Result<Answer, Failure>>,
    ) -> Option<Answer> {
        self.perform_within(REQUEST_TIMEOUT, action, work).await
    }

    /// Waits, or ends early with the run.
    pub async fn rest(&self, length: Duration) {
        tokio::select! {
            () = tokio::time::sleep(length) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
