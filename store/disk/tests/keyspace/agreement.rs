use proptest::prelude::*;
use xebec_store_core::{Command, MemoryStore, ReadView, Revision};
use xebec_store_disk::{CatchUp, CompactionStep, Keyspace};

use crate::commands::{apply_one, command, commit, everything, open, range, read};

/// What happens next in a random run.
#[derive(Clone, Debug)]
enum Action {
    Commit(Vec<Command>),
    Flush,
    CompactStep,
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        10 => prop::collection::vec(command(), 1..5).prop_map(Action::Commit),
        1 => Just(Action::Flush),
        2 => Just(Action::CompactStep),
        1 => Just(Action::Reopen),
    ]
}

fn agrees(keyspace: &Keyspace, model: &MemoryStore, probe: &xebec_store_core::KeyRange) -> Result<(), TestCaseError> {
    let view = keyspace.view();
    prop_assert_eq!(view.current_revision(), model.current_revision());
    prop_assert_eq!(view.compacted_revision(), model.compacted_revision());
    prop_assert_eq!(everything(view.as_ref()), everything(model));
    let oldest = model.compacted_revision().0.max(1);
    for revision in (oldest..=model.current_revision().0).map(Revision) {
        let expected = read(model, probe, revision);
        prop_assert_eq!(read(view.as_ref(), probe, revision), expected.clone());
        prop_assert_eq!(view.count(probe, revision).unwrap(), expected.len() as u64);
        for kv in expected {
            prop_assert_eq!(view.get(&kv.key, revision).unwrap(), Some(kv));
        }
    }
    if oldest > 1 {
        let read = keyspace.events(Revision(oldest - 1), model.current_revision(), probe, usize::MAX).unwrap();
        prop_assert_eq!(read, CatchUp::Compacted { compact_revision: Revision(oldest) });
    }
    Ok(())
}

/// Reads all events in small pieces.
fn events_agree(
    keyspace: &Keyspace,
    model: &MemoryStore,
    probe: &xebec_store_core::KeyRange,
    bytes_max: usize,
) -> Result<(), TestCaseError> {
    let (first, last) = (Revision(model.compacted_revision().0.max(2)), model.current_revision());
    let mut from = first;
    let mut found = Vec::new();
    while from <= last {
        let read = keyspace.events(from, last, probe, bytes_max).unwrap();
        let CatchUp::Events { events, through } = read else {
            return Err(TestCaseError::fail("nothing here is compacted"));
        };
        prop_assert!(through >= from && through <= last);
        found.extend(events.into_iter().map(|entry| (entry.revision, entry.events.to_vec())));
        from = through.next();
    }
    prop_assert_eq!(found, model.events(first, last, probe));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_disk_says_what_the_model_says(
        actions in prop::collection::vec(action(), 1..25),
        probe in range(),
        bytes_max in prop_oneof![Just(1usize), Just(500)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut keyspace = open(dir.path());
        let mut model = MemoryStore::default();
        for action in actions {
            match action {
                Action::Commit(commands) => {
                    let applied = commit(&keyspace, &commands);
                    for (command, applied) in commands.iter().zip(&applied) {
                        prop_assert_eq!(&apply_one(&model, command), applied);
                        model.commit(applied);
                    }
                }
                Action::Flush => {
                    keyspace.make_durable().unwrap();
                }
                Action::CompactStep => {
                    keyspace.compact_step().unwrap();
                }
                Action::Reopen => {
                    drop(keyspace);
                    keyspace = open(dir.path());
                }
            }
            agrees(&keyspace, &model, &probe)?;
        }
        events_agree(&keyspace, &model, &probe, bytes_max)?;
        let hash = keyspace.hash_kv(Revision(0)).unwrap();
        while keyspace.compact_step().unwrap() != CompactionStep::Done {}
        keyspace.reclaim();
        agrees(&keyspace, &model, &probe)?;
        events_agree(&keyspace, &model, &probe, bytes_max)?;
        prop_assert_eq!(keyspace.hash_kv(Revision(0)).unwrap(), hash, "removing old versions changes no hash");
    }
}
