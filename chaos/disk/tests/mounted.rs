//! The disk as programs see it: mounted (as root, or with fusermount3).

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FallocateFlags, Flock, FlockArg, fallocate},
    sys::statvfs::statvfs,
};
use xebec_chaos_disk::{Conditions, Disk, Loss, Names};

/// Linux' number for "input/output error".
const EIO: i32 = 5;

struct Shelf {
    disk: Disk,
    root: PathBuf,
    _dir: tempfile::TempDir,
}

fn shelf() -> Shelf {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    let disk =
        Disk::mount(&root, &dir.path().join("disk"), Names::Strict).expect("needs /dev/fuse, and root or fusermount3");
    Shelf { disk, root, _dir: dir }
}

fn write(path: &Path, text: &str, sync: bool) {
    let mut file = File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    if sync {
        file.sync_all().unwrap();
    }
}

fn sync_names(directory: &Path) {
    File::open(directory).unwrap().sync_all().unwrap();
}

#[test]
fn what_was_synced_survives_a_power_loss_and_what_was_not_does_not() {
    let Shelf { disk, root, .. } = &shelf();
    write(&root.join("kept"), "all of it", true);
    write(&root.join("named only"), "lost", false);
    sync_names(root);
    write(&root.join("synced without its name"), "lost too", true);
    let mut kept = OpenOptions::new().append(true).open(root.join("kept")).unwrap();
    kept.write_all(b", and more").unwrap();
    drop(kept);
    fs::create_dir_all(root.join("a/b")).unwrap();
    write(&root.join("a/b/c"), "lost with its directory", true);
    sync_names(&root.join("a/b"));
    disk.power_loss(Loss::Unsynced).unwrap();
    assert_eq!(fs::read_to_string(root.join("kept")).unwrap(), "all of it");
    assert_eq!(fs::read_to_string(root.join("named only")).unwrap(), "");
    let mut names: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["kept", "named only"]);
}

#[test]
fn a_replacement_by_rename_is_whole() {
    let Shelf { disk, root, .. } = &shelf();
    let (path, staged) = (root.join("vote"), root.join("vote.new"));
    write(&path, "1", true);
    sync_names(root);
    write(&staged, "2", true);
    fs::rename(&staged, &path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "2");
    disk.power_loss(Loss::Unsynced).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1");
    assert!(!staged.exists());
    write(&staged, "2", true);
    fs::rename(&staged, &path).unwrap();
    sync_names(root);
    disk.power_loss(Loss::Unsynced).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "2");
}

#[test]
fn programs_find_what_they_need() {
    let Shelf { root, .. } = &shelf();
    let path = root.join("log");
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).unwrap();
    fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    fallocate(&file, FallocateFlags::empty(), 0, 8_192).unwrap();
    file.write_all(&[7; 8_192]).unwrap();
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, hole, 4_096, 4_096).unwrap();
    file.sync_data().unwrap();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len(), bytes[4_095], bytes[4_096]), (8_192, 7, 0));
    fs::hard_link(&path, root.join("checkpoint")).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 2);
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("nobody else holds it");
    let other = File::open(&path).unwrap();
    Flock::lock(other, FlockArg::LockExclusiveNonblock).expect_err("somebody else holds it");
    drop(lock);
    for index in 0..1_000 {
        write(&root.join(format!("many-{index}")), "x", false);
    }
    assert_eq!(fs::read_dir(root).unwrap().count(), 1_002);
    let moved = root.join("moved");
    fs::create_dir(&moved).unwrap();
    fs::rename(root.join("many-1"), moved.join("one")).unwrap();
    fs::create_dir(moved.join("below")).unwrap();
    assert_eq!(fs::remove_dir(&moved).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    fs::remove_dir_all(&moved).unwrap();
    assert!(!moved.exists());
}

#[test]
fn a_full_disk_refuses_what_takes_space_and_nothing_else() {
    let Shelf { disk, root, .. } = &shelf();
    let file = File::create(root.join("log")).unwrap();
    fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 4_096).unwrap();
    disk.set(Conditions { full: true, ..Conditions::default() });
    file.write_all_at(&[1; 4_096], 0).expect("its space was allocated");
    assert_eq!(file.write_all_at(&[1], 4_096).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(File::create(root.join("new")).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(fs::read(root.join("log")).unwrap().len(), 4_096);
    assert_eq!(statvfs(root).unwrap().blocks_available(), 0);
    assert_eq!(disk.take_failures(), 2);
    disk.set(Conditions::default());
    file.write_all_at(&[1], 4_096).unwrap();
    assert!(statvfs(root).unwrap().blocks_available() > 0);
}

#[test]
fn a_sync_that_failed_saves_nothing_and_the_next_one_does_not_repair_it() {
    let Shelf { disk, root, .. } = &shelf();
    write(&root.join("log"), "one", true);
    sync_names(root);
    let mut file = OpenOptions::new().append(true).open(root.join("log")).unwrap();
    disk.set(Conditions { sync_fails: true, ..Conditions::default() });
    file.write_all(b"two").unwrap();
    assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(EIO));
    disk.set(Conditions::default());
    file.sync_all().unwrap();
    drop(file);
    disk.power_loss(Loss::Unsynced).unwrap();
    assert_eq!(fs::read(root.join("log")).unwrap(), b"one\0\0\0");
}

#[test]
fn a_slow_disk_is_slow_for_those_who_sync() {
    let Shelf { disk, root, .. } = &shelf();
    let delay = Duration::from_millis(120);
    disk.set(Conditions { sync_delay: delay, ..Conditions::default() });
    let file = File::create(root.join("log")).unwrap();
    let begin = Instant::now();
    file.write_all_at(b"x", 0).unwrap();
    assert!(begin.elapsed() < delay, "writes do not wait");
    file.sync_all().unwrap();
    assert!(begin.elapsed() >= delay);
    disk.set(Conditions { sync_delay: Duration::from_secs(3_600), ..Conditions::default() });
    let waiting = std::thread::spawn(move || file.sync_all());
    while statvfs(root).is_err() {}
    disk.set(Conditions::default());
    waiting.join().unwrap().expect("better conditions end the wait");
}

#[test]
fn nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (root, folder) = (dir.path().join("data"), dir.path().join("disk"));
    let disk = Disk::mount(&root, &folder, Names::Journal).unwrap();
    write(&root.join("a"), "x", true);
    disk.power_loss(Loss::Unsynced).unwrap();
    assert!(root.join("a").exists(), "a journal saves names with anything that is synced");
    drop(disk);
    assert!(!folder.exists());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(root.to_str().unwrap()));
}
