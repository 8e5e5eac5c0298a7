//! The KV service from the message to the applied command.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use xebec_store::fuzzing::{Checked, KV_MESSAGES, check_kv};
use xebec_store_core::{
    Applied, ClusterTime, Command, LeaseGrant, LeaseId, MemoryStore, Op, Put, ReadView, Revision, Txn, apply,
};

use super::{Target, join, outcome};
use crate::{generate, input::Input, input::Part};
use xebec_store_dice::Dice;

/// Sound messages of each kind to begin with, and sequences of them.
const MESSAGES_PER_KIND: usize = 40;
const SEQUENCES: usize = 60;
/// A compaction to the revision of the revisions below may not be followed by a read there.
const LEASE: i64 = 7;

/// A store that has something in it.
pub struct Kv {
    store: MemoryStore,
}

impl Kv {
    pub fn new() -> Self {
        let mut store = MemoryStore::default();
        let grant = LeaseGrant { id: LeaseId(LEASE), ttl_seconds: 60, now: ClusterTime(0) };
        let put = |key: &'static str| Put { key: key.into(), value: Bytes::from_static(b"value"), ..Put::default() };
        let puts = ["a", "b", "a/b", "c", "a"].map(|key| Command::Put(put(key)));
        for command in [Command::LeaseGrant(grant)].into_iter().chain(puts) {
            apply_to(&mut store, &command);
        }
        Self { store }
    }
}

/// Applies a command and checks what apply promises of revisions.
fn apply_to(store: &mut MemoryStore, command: &Command) -> Applied {
    let before = store.current_revision();
    let applied = apply(store, command).expect("a store in memory can be read");
    assert!(applied.revision == before || applied.revision == before.next(), "{before} became {}", applied.revision);
    assert!(!applied.events.is_empty() || applied.revision == before, "a revision without a change");
    store.commit(&applied);
    applied
}

impl Target for Kv {
    fn seeds(&self) -> Result<Vec<Input>> {
        let (pool, mut dice) = (generate::pool(), Dice::new(1));
        let mut seeds = Vec::new();
        for (kind, name) in KV_MESSAGES.iter().enumerate() {
            let descriptor =
                pool.get_message_by_name(&format!("etcdserverpb.{name}")).with_context(|| format!("no {name}"))?;
            for _ in 0..MESSAGES_PER_KIND {
                seeds.push(Input::one(kind as u16, generate::message(&descriptor, &mut dice)));
            }
        }
        for _ in 0..SEQUENCES {
            let parts: Vec<Part> = (0..6).map(|_| dice.pick(&seeds).parts[0].clone()).collect();
            seeds.push(Input { parts });
        }
        Ok(seeds)
    }

    fn run(&mut self, input: &Input) -> u64 {
        let mut store = self.store.clone();
        let mut told = 0;
        for part in &input.parts {
            let kind = usize::from(part.kind) % KV_MESSAGES.len();
            let text = match check_kv(kind, &part.bytes) {
                Err(refusal) => refusal,
                Ok(checked) => {
                    let command = match checked {
                        Checked::Command(command) => command,
                        Checked::Range(range) => {
                            Command::Txn(Txn { success: vec![Op::Range(range)], ..Txn::default() })
                        }
                    };
                    match apply_to(&mut store, &command).result {
                        Ok(_) => format!("{kind:?} applied"),
                        Err(refusal) => refusal.to_string(),
                    }
                }
            };
            told = join(told, outcome(&format!("{}{text}", KV_MESSAGES[kind])));
        }
        assert!(store.compacted_revision() <= store.current_revision().max(Revision(1)));
        told
    }
}
