#![allow(clippy::unwrap_used, reason = "a test")]
//! The log through its public face: reopening, damage, and a model.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
};

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use xebec_store_log::{Log, LogEntry, LogError, LogOptions};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item(u64, Bytes);

impl LogEntry for Item {
    fn index(&self) -> u64 {
        self.0
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0.to_le_bytes());
        out.extend_from_slice(&self.1);
        Ok(())
    }
    fn decode(bytes: Bytes) -> Result<Self, String> {
        let index = bytes[..8].try_into().map_err(|_| "short".to_owned())?;
        Ok(Self(u64::from_le_bytes(index), bytes.slice(8..)))
    }
    fn weight_bytes(&self) -> usize {
        self.1.len() + 32
    }
}

fn options(dir: &Path) -> LogOptions {
    LogOptions { dir: dir.to_path_buf(), segment_bytes_max: 600, cache_bytes_max: 300 }
}

fn open(dir: &Path) -> Log<Item> {
    Log::open(options(dir)).unwrap()
}

fn item(index: u64, seed: u8) -> Item {
    Item(index, Bytes::from(vec![seed.max(1); 40 + usize::from(seed) % 50]))
}

/// Waits for a write's callback.
fn wait(write: impl FnOnce(Box<dyn FnOnce(Result<(), LogError>) + Send>) -> Result<(), LogError>) {
    let (tx, rx) = mpsc::channel();
    write(Box::new(move |result| tx.send(result).unwrap())).unwrap();
    rx.recv().unwrap().unwrap();
}

fn append(log: &Log<Item>, items: &[Item]) {
    wait(|done| log.append(items.to_vec(), done));
}

fn all(log: &Log<Item>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut next = log.first_index();
    loop {
        let read = log.read(next..u64::MAX, 200).unwrap();
        let Some(last) = read.last() else {
            return items;
        };
        next = last.0 + 1;
        items.extend(read);
    }
}

fn filled(dir: &Path, count: u64) -> Vec<Item> {
    let log = open(dir);
    let items: Vec<Item> = (0..count).map(|index| item(index, index as u8)).collect();
    for chunk in items.chunks(3) {
        append(&log, chunk);
    }
    items
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let items = filled(dir.path(), 50);
    let log = open(dir.path());
    assert_eq!(all(&log), items);
    assert_eq!(log.last_index(), Some(49));
    assert!(segments(dir.path()).len() > 3);
}

#[test]
fn entries_are_readable_before_they_are_flushed() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    let (tx, rx) = mpsc::channel();
    for index in 0..200 {
        let tx = tx.clone();
        log.append(vec![item(index, 9)], move |result| tx.send(result).unwrap()).unwrap();
        assert_eq!(log.read(index..index + 1, 1).unwrap(), vec![item(index, 9)]);
    }
    drop(tx);
    assert_eq!(rx.iter().filter(Result::is_ok).count(), 200);
}

#[test]
fn reading_without_a_limit_reads_everything_there_is_in_a_segment() {
    let dir = TempDir::new().unwrap();
    let items = filled(dir.path(), 50);
    let read = open(dir.path()).read(0..50, usize::MAX).unwrap();
    assert_eq!(read[..], items[..read.len()]);
    assert!(read.len() > 3);
}

#[test]
fn only_whole_segments_are_purgeable() {
    let dir = TempDir::new().unwrap();
    filled(dir.path(), 50);
    let log = open(dir.path());
    assert_eq!(log.purgeable(u64::MAX), None);
    let upto = log.purgeable(500).unwrap();
    let before = log.size_bytes();
    log.purge(upto, vec![]).unwrap();
    append(&log, &[item(50, 1)]);
    assert_eq!(log.first_index(), upto + 1);
    assert!(log.size_bytes() < before / 2);
}

#[test]
fn a_gap_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    append(&log, &[item(0, 1)]);
    let error = log.append(vec![item(2, 1)], |_| ()).unwrap_err();
    assert!(matches!(error, LogError::NotConsecutive { want: 1, got: 2 }));
}

#[test]
fn a_second_process_is_refused() {
    let dir = TempDir::new().unwrap();
    let _log = open(dir.path());
    assert!(matches!(Log::<Item>::open(options(dir.path())), Err(LogError::InUse { .. })));
}

#[test]
fn the_vote_survives() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    assert_eq!(log.vote(), None);
    wait(|done| log.save_vote(b"first".to_vec(), done));
    wait(|done| log.save_vote(b"second".to_vec(), done));
    drop(log);
    assert_eq!(open(dir.path()).vote(), Some(b"second".to_vec()));
}

#[test]
fn a_damaged_vote_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    wait(|done| log.save_vote(b"vote".to_vec(), done));
    drop(log);
    let path = dir.path().join("state");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&path, bad).unwrap();
        assert!(matches!(Log::<Item>::open(options(dir.path())), Err(LogError::Corrupt { .. })), "{at}");
    }
}

#[test]
fn every_cut_of_the_last_record_is_cut_off_and_writing_goes_on() {
    let dir = TempDir::new().unwrap();
    let items = filled(dir.path(), 20);
    let path = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let last_record = 28 + 8 + items[19].1.len();
    for cut in 1..=last_record {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let log = open(dir.path());
        assert_eq!(log.last_index(), Some(18), "cut {cut}");
        append(&log, &[items[19].clone()]);
        drop(log);
        assert_eq!(all(&open(dir.path())), items);
        assert_eq!(fs::read(&path).unwrap().len(), whole.len());
    }
}

#[test]
fn every_flipped_bit_in_any_segment_is_refused_with_its_place() {
    let dir = TempDir::new().unwrap();
    filled(dir.path(), 20);
    for path in segments(dir.path()) {
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bad = whole.clone();
            bad[at] ^= 16;
            fs::write(&path, &bad).unwrap();
            match Log::<Item>::open(options(dir.path())) {
                Err(LogError::Corrupt { path: named, offset, .. }) => {
                    assert_eq!(named, path);
                    assert!(offset <= at as u64);
                }
                other => panic!("{at}: {other:?}"),
            }
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn zeros_in_the_last_batch_are_a_torn_write_and_before_it_damage() {
    let dir = TempDir::new().unwrap();
    let log: Log<Item> = Log::open(LogOptions::new(dir.path())).unwrap();
    let long = |index| Item(index, Bytes::from(vec![7; 2000]));
    append(&log, &[long(0), long(1)]);
    append(&log, &[long(2), long(3)]);
    drop(log);
    let path = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let record = 28 + 8 + 2000;

    let mut torn = whole.clone();
    let at = 24 + 2 * record + 600;
    torn[at..at + 1100].fill(0);
    fs::write(&path, &torn).unwrap();
    let log: Log<Item> = Log::open(LogOptions::new(dir.path())).unwrap();
    assert_eq!(log.last_index(), Some(1));
    drop(log);

    let mut damaged = whole;
    let at = 24 + 600;
    damaged[at..at + 1100].fill(0);
    fs::write(&path, &damaged).unwrap();
    let opened: Result<Log<Item>, _> = Log::open(LogOptions::new(dir.path()));
    assert!(matches!(opened, Err(LogError::Corrupt { offset: 24, .. })), "{opened:?}");
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = TempDir::new().unwrap();
    filled(dir.path(), 50);
    let paths = segments(dir.path());
    for path in &paths[..paths.len() - 1] {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        assert!(matches!(Log::<Item>::open(options(dir.path())), Err(LogError::MissingSegment { .. })));
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_cut_in_an_earlier_segment_is_refused() {
    let dir = TempDir::new().unwrap();
    filled(dir.path(), 50);
    let path = &segments(dir.path())[0];
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 5]).unwrap();
    assert!(matches!(Log::<Item>::open(options(dir.path())), Err(LogError::Corrupt { .. })));
}

#[test]
fn a_purge_beyond_the_end_lets_the_log_go_on_behind_it() {
    let dir = TempDir::new().unwrap();
    filled(dir.path(), 10);
    let log = open(dir.path());
    log.purge(99, b"at 99".to_vec()).unwrap();
    append(&log, &[item(100, 1)]);
    assert_eq!(all(&log), vec![item(100, 1)]);
    drop(log);
    let log = open(dir.path());
    assert_eq!(all(&log), vec![item(100, 1)]);
    assert_eq!(log.purged(), Some((99, b"at 99".to_vec())));
}

#[test]
fn a_log_cut_before_what_was_committed_is_refused() {
    let dir = TempDir::new().unwrap();
    filled(dir.path(), 20);
    let log = open(dir.path());
    log.note_committed(25, b"not on this disk".to_vec()).unwrap();
    assert_eq!(log.committed(), None);
    log.note_committed(19, b"at 19".to_vec()).unwrap();
    drop(log);
    assert_eq!(open(dir.path()).committed(), Some((19, b"at 19".to_vec())));
    let path = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let cut = Log::<Item>::open(options(dir.path()));
    assert!(matches!(cut, Err(LogError::Cut { last: 18, committed: 19, .. })), "{cut:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Truncate(u64),
    Purge(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(any::<u8>(), 1..6).prop_map(Step::Append),
        2 => (0u64..8).prop_map(Step::Truncate),
        1 => (0u64..30).prop_map(Step::Purge),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_behaves_as_a_vector(steps in prop::collection::vec(step(), 1..40)) {
        let dir = TempDir::new().unwrap();
        let mut log = open(dir.path());
        let mut model: Vec<Item> = Vec::new();
        let mut first = 0u64;
        for step in steps {
            let next = first + model.len() as u64;
            match step {
                Step::Append(seeds) => {
                    let items: Vec<Item> = seeds.iter().zip(next..).map(|(seed, index)| item(index, *seed)).collect();
                    append(&log, &items);
                    model.extend(items);
                }
                Step::Truncate(back) => {
                    let from = next.saturating_sub(back).max(first);
                    wait(|done| log.truncate_from(from, done));
                    model.truncate((from - first) as usize);
                }
                Step::Purge(ahead) => {
                    let upto = first + ahead;
                    log.purge(upto, vec![1]).unwrap();
                    model.drain(..((ahead + 1) as usize).min(model.len()));
                    first = upto + 1;
                }
                Step::Reopen => {
                    drop(log);
                    log = open(dir.path());
                }
            }
            prop_assert_eq!(all(&log), model.clone());
            prop_assert_eq!(log.last_index(), (first + model.len() as u64).checked_sub(1));
        }
    }
}
