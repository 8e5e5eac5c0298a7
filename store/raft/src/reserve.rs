//! Room that is kept free on the data's disk, so that a full disk can be emptied: files of allocated space, given up when
//! the disk runs full, and taken again when there is room.
//!
//! One is for a member that runs: deletions and compactions need some space. The other is for one that starts: neither
//! RocksDB nor Raft can begin without writing (a manifest, a flush of what the log repeats, a vote), so that a member whose
//! disk filled up behind its back could not even be asked to delete something. It is given up by halves, so that several
//! starts in a row find some even if somebody else fills what was freed.

use std::{
    fmt, fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use xebec_store_log::{File, Files, LocalFiles, Lock, Work};

use crate::room::Room;

const FILE_NAME: &str = "reserve";
const START_FILE_NAME: &str = "reserve-to-start";
/// Bytes of each reserve on a large disk; on a smaller one its [`RESERVE_DISK_PART`]th.
const RESERVE_BYTES_MAX: u64 = 64 << 20;
const RESERVE_DISK_PART: u64 = 16;
/// A member starts as it is if so many bytes are free (or a reserve's worth, on a small disk). It takes less than the
/// keyspace's write buffers, which may have to be flushed while the log is repeated.
const START_BYTES: u64 = 32 << 20;
/// A reserve to start is not cut to less than this: then all of it goes.
const START_RESERVE_BYTES_MIN: u64 = 16 << 20;
/// How long the log's writer waits before it tries again to write to a full disk, and how often it says so.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const REMINDER: Duration = Duration::from_secs(10);

/// A data directory's reserve. Several handles of one directory are the same.
#[derive(Clone, Debug)]
pub struct Reserve {
    path: PathBuf,
    start_path: PathBuf,
}

/// How much room a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// Bytes of the reserve; 0 while it is given up.
    pub reserved_bytes: u64,
    /// Bytes of the reserve for a start.
    pub start_reserved_bytes: u64,
}

impl Reserve {
    /// The reserve of a member's data directory.
    pub fn of(data_dir: &Path) -> Reserve {
        let dir = data_dir.join("member");
        Reserve { path: dir.join(FILE_NAME), start_path: dir.join(START_FILE_NAME) }
    }

    /// Measures the disk. May block.
    ///
    /// # Errors
    /// The operating system's.
    pub fn measure(&self) -> io::Result<DiskSpace> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let stat = nix::sys::statvfs::statvfs(dir)?;
        let length_bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(DiskSpace {
            total_bytes: stat.blocks() * stat.fragment_size(),
            free_bytes: stat.blocks_available() * stat.fragment_size(),
            reserved_bytes: length_bytes(&self.path),
            start_reserved_bytes: length_bytes(&self.start_path),
        })
    }

    /// Bytes that each reserve of a disk of this size has.
    pub fn size_bytes(total_bytes: u64) -> u64 {
        RESERVE_BYTES_MAX.min(total_bytes / RESERVE_DISK_PART)
    }

    /// Bytes of the disk that the data directory is or will be on; nothing if it cannot be measured.
    pub(crate) fn disk_bytes(&self) -> Option<u64> {
        let dir = self.path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
        match nix::sys::statvfs::statvfs(dir) {
            Ok(stat) => Some(stat.blocks() * stat.fragment_size()),
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "the disk cannot be measured");
                None
            }
        }
    }

    /// Bytes without which nothing should be begun on a disk of this size.
    fn floor_bytes(total_bytes: u64) -> u64 {
        START_BYTES.min(Self::size_bytes(total_bytes))
    }

    /// Allocates the running member's reserve. May block.
    ///
    /// # Errors
    /// The operating system's, a full disk among them; nothing is left then.
    pub fn take(&self) -> io::Result<()> {
        allocate(&self.path, Self::size_bytes(self.measure()?.total_bytes))
    }

    /// Allocates the reserve for a start. May block.
    ///
    /// # Errors
    /// As [`Reserve::take`].
    pub fn take_for_start(&self) -> io::Result<()> {
        allocate(&self.start_path, Self::size_bytes(self.measure()?.total_bytes))
    }

    /// Gives the running member's reserve up: its space is free at once.
    ///
    /// # Errors
    /// The operating system's.
    pub fn give_up(&self) -> io::Result<()> {
        remove(&self.path)
    }

    /// Before anything of a member is opened: gives reserves up as far as the disk is too full to start on. May block.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn make_room_to_start(&self) -> io::Result<()> {
        if !self.path.parent().is_some_and(Path::is_dir) {
            return Ok(());
        }
        let disk = self.measure()?;
        let needed_bytes = Self::floor_bytes(disk.total_bytes);
        if disk.free_bytes >= needed_bytes {
            return Ok(());
        }
        tracing::warn!(free_bytes = disk.free_bytes, needed_bytes, "starting on a full disk: giving reserves up");
        self.give_up()?;
        if self.measure()?.free_bytes >= needed_bytes {
            return Ok(());
        }
        match disk.start_reserved_bytes / 2 {
            half if half >= START_RESERVE_BYTES_MIN => {
                fs::OpenOptions::new().write(true).open(&self.start_path)?.set_len(half)
            }
            _ => remove(&self.start_path),
        }
    }
}

impl Room for Reserve {
    fn make(&self) -> io::Result<bool> {
        self.give_up()?;
        let disk = self.measure()?;
        Ok(disk.free_bytes >= Self::floor_bytes(disk.total_bytes))
    }
}

/// Makes a file of so much space; nothing is left if there is not enough.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    let allocated = nix::fcntl::posix_fallocate(file.as_fd(), 0, length).map_err(io::Error::from);
    if allocated.is_err() {
        remove(path)?;
    }
    allocated
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The machine's files, with a reserve: a write to a full disk first uses that up, and then waits for room. The log's
/// writer thus never fails for want of space; what waits for it is not acknowledged, and nothing is lost.
#[derive(Clone, Debug)]
pub(crate) struct ReservedFiles {
    reserve: Reserve,
    /// Set when the member stops: then nothing waits any more.
    stops: Arc<AtomicBool>,
}

struct ReservedFile {
    file: Arc<dyn File>,
    files: ReservedFiles,
}

impl fmt::Debug for ReservedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl ReservedFiles {
    pub fn new(reserve: Reserve) -> Self {
        Self { reserve, stops: Arc::default() }
    }

    fn guard(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(ReservedFile { file, files: self.clone() })
    }

    /// Tries until it is not for want of space that it fails.
    fn until_room<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut reminded: Option<Instant> = None;
        loop {
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::StorageFull && !self.stops.load(Ordering::Acquire) => {
                    if reminded.is_none_or(|at| at.elapsed() > REMINDER) {
                        let reserve = self.reserve.path.display();
                        tracing::error!(%reserve, "the disk is full: writes wait for space");
                        reminded = Some(Instant::now());
                    }
                    if let Err(error) = self.reserve.give_up() {
                        tracing::error!(%error, "the reserve cannot be given up");
                    }
                    thread::sleep(RETRY_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }
}

impl File for ReservedFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Written again from the start: what a failed attempt has left is overwritten.
        self.files.until_room(|| self.file.write_all_at(bytes, offset))
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.files.until_room(|| self.file.set_len(bytes))
    }

    // A failed sync is never tried again: what is on disk is unknown then.
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Files for ReservedFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        LocalFiles.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        LocalFiles.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        LocalFiles.read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.until_room(|| LocalFiles.create(path)).map(|file| self.guard(file))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        self.until_room(|| LocalFiles.open(path, create)).map(|file| self.guard(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.until_room(|| LocalFiles.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalFiles.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        LocalFiles.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        LocalFiles.lock(path)
    }

    fn start(&self, writer: Box<dyn Work>) -> io::Result<Option<JoinHandle<()>>> {
        LocalFiles.start(writer)
    }

    fn stop_waiting(&self) {
        self.stops.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve() -> (tempfile::TempDir, Reserve) {
        let dir = tempfile::TempDir::new().unwrap();
        fs::create_dir(dir.path().join("member")).unwrap();
        let reserve = Reserve::of(dir.path());
        (dir, reserve)
    }

    #[test]
    fn a_reserve_takes_its_space_and_gives_it_back() {
        let (_dir, reserve) = reserve();
        reserve.take().unwrap();
        reserve.take_for_start().unwrap();
        let taken = reserve.measure().unwrap();
        let size = Reserve::size_bytes(taken.total_bytes);
        assert_eq!((taken.reserved_bytes, taken.start_reserved_bytes), (size, size));
        reserve.give_up().unwrap();
        reserve.give_up().unwrap();
        let left = reserve.measure().unwrap();
        assert_eq!((left.reserved_bytes, left.start_reserved_bytes), (0, size));
    }

    #[test]
    fn a_start_with_room_takes_nothing_from_the_reserves() {
        let (_dir, reserve) = reserve();
        reserve.take().unwrap();
        reserve.take_for_start().unwrap();
        let before = reserve.measure().unwrap();
        reserve.make_room_to_start().unwrap();
        let after = reserve.measure().unwrap();
        assert_eq!(after.reserved_bytes, before.reserved_bytes);
        assert_eq!(after.start_reserved_bytes, before.start_reserved_bytes);
        let nothing = tempfile::TempDir::new().unwrap();
        Reserve::of(&nothing.path().join("not there yet")).make_room_to_start().unwrap();
    }

    #[test]
    fn a_write_to_a_full_disk_uses_the_reserve_and_then_waits() {
        let (_dir, reserve) = reserve();
        reserve.take().unwrap();
        let files = ReservedFiles::new(reserve.clone());
        let mut attempts = 0;
        let outcome = files.until_room(|| {
            attempts += 1;
            if attempts < 3 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(reserve.measure()?.reserved_bytes) }
        });
        assert_eq!((outcome.unwrap(), attempts), (0, 3));
    }

    #[test]
    fn nothing_waits_for_room_once_the_member_stops() {
        let (_dir, reserve) = reserve();
        let files = ReservedFiles::new(reserve);
        files.stop_waiting();
        let outcome = files.until_room(|| Err::<(), _>(io::ErrorKind::StorageFull.into()));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
