use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use xebec_store_core::auth::{AuthCommand, Caller, PasswordHash, TokenHash};
use xebec_store_core::{ClusterTime, Command, KeyRange, ReadView, Revision, WatchCursor, WatchSpec, WatchStep};
use xebec_store_disk::{COMPACTION_STEP_EVENTS_MAX, CatchUp, Checkpoint, CompactionStep, DiskError, Keyspace, Options};

use crate::commands::{at, bytes, commit, compact, delete, everything, open, put, read, value};

/// Times a copy is begun again because RocksDB's background work took a file away meanwhile.
const COPY_TRIES_MAX: usize = 100;

/// Copies a directory as a crash would leave it: what is in memory is lost.
fn crash_copy(from: &Path, to: &Path) {
    // A crash sees all files at one moment. A copy does not, so one that a file vanished under proves nothing.
    for _ in 0..COPY_TRIES_MAX {
        match copy(from, to) {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::NotFound => fs::remove_dir_all(to).unwrap(),
            Err(error) => panic!("{}: {error}", from.display()),
        }
    }
    panic!("{}: never at rest", from.display());
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn what_was_committed_is_there_after_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = open(dir.path());
    commit(&keyspace, &[put("a", "1"), put("b", "2")]);
    keyspace.commit(at(2), Some(b"members"), &[]).unwrap();
    let before = everything(keyspace.view().as_ref());
    drop(keyspace);
    let keyspace = open(dir.path());
    assert_eq!(everything(keyspace.view().as_ref()), before);
    assert_eq!(keyspace.applied().unwrap(), (Some(at(2)), Some(bytes("members"))));
}

#[test]
fn users_and_tokens_survive_a_close_and_travel_with_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = open(dir.path());
    let root = || Caller { user: "root".into(), auth_revision: 1 };
    let change = |command| Command::Auth(command).by(root());
    let password = Some(PasswordHash(bytes("hash")));
    let commands = [
        change(AuthCommand::UserAdd { name: "root".into(), password }),
        change(AuthCommand::UserGrantRole { user: "root".into(), role: "root".into() }),
        change(AuthCommand::Enable),
        Command::Auth(AuthCommand::Authenticate {
            user: "root".into(),
            checked_revision: 3,
            token: TokenHash([7; 32]),
            ttl_millis: 1_000,
            now: ClusterTime(5),
        }),
    ];
    for applied in commit(&keyspace, &commands) {
        applied.result.unwrap();
    }
    let before = everything(keyspace.view().as_ref());
    drop(keyspace);
    let keyspace = open(dir.path());
    assert_eq!(everything(keyspace.view().as_ref()), before);
    assert_eq!(keyspace.view().auth().token(&TokenHash([7; 32])).unwrap().user, "root");
    let taken = tempfile::tempdir().unwrap();
    let taken = taken.path().join("checkpoint");
    let checkpoint = keyspace.checkpoint(&taken).unwrap();
    let other_dir = tempfile::tempdir().unwrap();
    let other = open(other_dir.path());
    other.install_checkpoint(&taken, &checkpoint).unwrap();
    assert_eq!(everything(other.view().as_ref()), before);
    // And what is refused here is refused there.
    assert!(commit(&other, &[put("a", "1")])[0].result.is_err());
}

#[test]
fn after_a_crash_the_keyspace_is_whole_at_or_behind_its_last_commit_and_never_behind_its_promise() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = open(dir.path());
    assert_eq!(keyspace.durable_position(), None);
    commit(&keyspace, &[put("a", "1")]);
    assert_eq!(keyspace.durable_position(), None, "a commit promises nothing");
    assert_eq!(keyspace.make_durable().unwrap(), Some(at(1)));
    commit(&keyspace, &[put("a", "2")]);
    let crashed = tempfile::tempdir().unwrap();
    crash_copy(dir.path(), crashed.path());
    let recovered = open(crashed.path());
    assert_eq!(recovered.applied().unwrap().0, Some(at(1)));
    assert_eq!(recovered.durable_position(), Some(at(1)));
    assert_eq!(recovered.view().current_revision(), Revision(2));
    assert_eq!(value(&recovered, "a"), Some(bytes("1")));
    // Raft applies the rest again and comes to the same.
    commit(&recovered, &[put("a", "2")]);
    assert_eq!(everything(recovered.view().as_ref()), everything(keyspace.view().as_ref()));
}

#[test]
fn a_crash_before_the_first_database_was_complete_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let marker = dir.path().join("KEYSPACE");
    let text = fs::read_to_string(&marker).unwrap();
    let cut = text.find("manifest").unwrap();
    let body = format!("{}manifest -\n", &text[..cut]);
    fs::write(&marker, format!("{body}crc32c {:08x}\n", crc32c::crc32c(body.as_bytes()))).unwrap();
    fs::remove_file(dir.path().join("db-1/CURRENT")).unwrap();
    assert_eq!(open(dir.path()).view().current_revision(), Revision(1));
}

#[test]
fn commits_out_of_order_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = open(dir.path());
    let applied = commit(&keyspace, &[put("a", "1")]);
    assert!(matches!(keyspace.commit(at(1), None, &[]), Err(DiskError::OutOfOrder { .. })));
    assert!(matches!(keyspace.commit(at(2), None, &applied), Err(DiskError::RevisionGap { .. })));
    assert_eq!(keyspace.view().position(), Some(at(1)));
}

#[test]
fn a_view_stays_as_it_was_and_does_not_hold_up_writers() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = open(dir.path());
    commit(&keyspace, &[put("a", "1"), put("b", "1")]);
    let view = keyspace.view();
    let before = everything(view.as_ref());
    commit(&keyspace, &[put("a", "2"), delete("b"), compact(5)]);
    while keyspace.compact_step().unwrap() != CompactionStep::Done {}
    keyspace.reclaim();
    assert_eq!(everything(view.as_ref()), before);
    assert_eq!(keyspace.view().compacted_revision(), Revision(5));
}

#[test]
fn compaction_comes_in_bounded_steps_survives_a_reopen_and_returns_space() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = open(dir.path());
    let large = "x".repeat(2_000);
    let rounds = 5;
    let per_round = COMPACTION_STEP_EVENTS_MAX;
    for round in 0..rounds {
        // Values differ, so that compression does not hide the space.
        let commands: Vec<_> =
            (0..per_round).map(|index| put(&format!("k{index:04}"), &format!("{round}{index}{large}"))).collect();
        commit(&keyspace, &commands);
        keyspace.make_durable().unwrap();
    }
    let last = keyspace.view().current_revision();
    commit(&keyspace, &[compact(last.0)]);
    let before = keyspace.sizes().unwrap();
    let CompactionStep::More { removed } = keyspace.compact_step().unwrap() else { panic!("more is left") };
    assert!(removed <= COMPACTION_STEP_EVENTS_MAX);
    drop(keyspace);
    let keyspace = open(dir.path());
    let mut steps = 1;
    while keyspace.compact_step().unwrap() != CompactionStep::Done {
        steps += 1;
    }
    assert!(steps >= rounds, "{steps}");
    keyspace.reclaim();
    keyspace.make_durable().unwrap();
    let after = keyspace.sizes().unwrap();
    assert!(after.live_bytes < before.live_bytes, "{before:?} {after:?}");
    assert_eq!(read(keyspace.view().as_ref(), &KeyRange::all(), last).len(), per_round);
    assert_eq!(keyspace.compact_step().unwrap(), CompactionStep::Done);
}

#[test]
fn a_watch_may_start_at_the_compacted_revision_and_sees_its_tombstone() {
    let dir = tempfile::tempdir().unwrap();
    let keyspace = open(dir.path());
    commit(&keyspace, &[put("a", "1"), delete("a"), put("a", "2"), compact(3)]);
    while keyspace.compact_step().unwrap() != CompactionStep::Done {}
    let CatchUp::Events { events, through } =
        keyspace.events(Revision(3), Revision(4), &KeyRange::all(), 1 << 20).unwrap()
    else {
        panic!()
    };
    assert_eq!((events.len(), through), (2, Revision(4)));
    assert_eq!(events[0].events[0].prev_kv, None, "compaction took it");
    let spec = WatchSpec {
        range: KeyRange::all(),
        start_revision: Revision(3),
        no_put: false,
        no_delete: false,
        prev_kv: true,
    };
    let log = xebec_store_core::EventLog::new(Default::default(), Revision(4));
    let mut cursor = WatchCursor::new(spec, Revision(4));
    assert_eq!(cursor.poll(&log, Revision(3), 1 << 20), WatchStep::CatchUp { from: Revision(3), to: Revision(4) });
    assert_eq!(cursor.catch_up(&events, through).unwrap().events.len(), 2);
    assert_eq!(cursor.poll(&log, Revision(3), 1 << 20), WatchStep::Synced { revision: Revision(4) });
}

fn checkpointed(dir: &Path) -> (Keyspace, Checkpoint) {
    let keyspace = open(&dir.join("source"));
    commit(&keyspace, &[put("a", "1"), put("b", "1"), put("a", "2")]);
    keyspace.commit(at(2), Some(b"members"), &[]).unwrap();
    let checkpoint = keyspace.checkpoint(&dir.join("checkpoint")).unwrap();
    (keyspace, checkpoint)
}

#[test]
fn a_checkpoint_is_complete_and_replaces_another_keyspace() {
    let dir = tempfile::tempdir().unwrap();
    let (source, checkpoint) = checkpointed(dir.path());
    assert_eq!(checkpoint.position, Some(at(2)));
    assert_eq!(checkpoint.revision, Revision(4));
    let expected = everything(source.view().as_ref());
    commit(&source, &[put("a", "3")]);

    let target_dir = dir.path().join("target");
    let target = open(&target_dir);
    commit(&target, &[put("z", "old")]);
    let old_view = target.view();
    target.install_checkpoint(&dir.path().join("checkpoint"), &checkpoint).unwrap();
    assert_eq!(everything(target.view().as_ref()), expected);
    assert_eq!(target.applied().unwrap(), (Some(at(2)), Some(bytes("members"))));
    assert_eq!(target.durable_position(), Some(at(2)), "what was installed is on disk");
    assert_eq!(old_view.get(b"z", Revision(2)).unwrap().unwrap().value, bytes("old"));
    assert!(target_dir.join("db-1").exists());
    drop(old_view);
    assert!(!target_dir.join("db-1").exists(), "removed with its last view");
    commit(&target, &[put("a", "3")]);
    assert_eq!(everything(target.view().as_ref()), everything(source.view().as_ref()));
    assert_eq!(target.hash_kv(Revision(4)).unwrap(), source.hash_kv(Revision(4)).unwrap());
    drop(target);
    assert_eq!(value(&open(&target_dir), "a"), Some(bytes("3")));
}

#[test]
fn an_interrupted_install_leaves_the_old_keyspace() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let half = dir.path().join("db-2");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("000001.sst"), "half").unwrap();
    assert_eq!(open(dir.path()).view().current_revision(), Revision(1));
    assert!(!half.exists());
}

#[test]
fn a_checkpoint_that_is_not_what_it_says_is_refused_with_the_file_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_source, checkpoint) = checkpointed(dir.path());
    let from = dir.path().join("checkpoint");
    let target = open(&dir.path().join("target"));
    commit(&target, &[put("z", "kept")]);
    let table = checkpoint.files.iter().position(|file| file.name.ends_with(".sst")).unwrap();
    type Damage<'a> = Box<dyn Fn(&mut Checkpoint) + 'a>;
    let damages: Vec<Damage<'_>> = vec![
        Box::new(|checkpoint| checkpoint.files[table].crc32c ^= 1),
        Box::new(|checkpoint| checkpoint.files[table].size_bytes += 1),
        Box::new(|checkpoint| checkpoint.files[table].name = "999999.sst".to_owned()),
        Box::new(|checkpoint| checkpoint.files[table].name = "../source/KEYSPACE".to_owned()),
        Box::new(|checkpoint| checkpoint.revision = Revision(99)),
        Box::new(|checkpoint| {
            checkpoint.files.remove(table);
        }),
    ];
    for damage in damages {
        let mut damaged = checkpoint.clone();
        damage(&mut damaged);
        let error = target.install_checkpoint(&from, &damaged).unwrap_err();
        assert!(matches!(error, DiskError::Corrupt { .. }), "{error}");
        assert_eq!(value(&target, "z"), Some(bytes("kept")));
    }
    target.install_checkpoint(&from, &checkpoint).unwrap();
    assert_eq!(value(&target, "a"), Some(bytes("2")));
}

#[test]
fn another_clusters_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = |cluster_id| Options { cluster_id, ..Options::default() };
    drop(Keyspace::open(dir.path(), options(5)).unwrap());
    assert!(matches!(
        Keyspace::open(dir.path(), options(6)),
        Err(DiskError::OtherCluster { found: 5, expected: 6, .. })
    ));
    drop(Keyspace::open(dir.path(), options(5)).unwrap());
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _held = open(dir.path());
    let error = Keyspace::open(dir.path(), Options::default()).err().unwrap();
    assert!(matches!(error, DiskError::Locked { .. }), "{error:?}");
}
