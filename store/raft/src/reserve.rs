//! Room that is kept free on the data's disk, so that a full disk can be emptied: a file of allocated space, given up
//! when the disk runs full, and taken again when there is room.

use std::{
    fmt, fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use xebec_store_log::{File, Files, LocalFiles, Lock, Work};

const FILE_NAME: &str = "reserve";
/// Bytes kept on a large disk; on a smaller one its [`RESERVE_DISK_PART`]th.
const RESERVE_BYTES_MAX: u64 = 64 << 20;
const RESERVE_DISK_PART: u64 = 16;
/// How long the log's writer waits before it tries again to write to a full disk, and how often it says so.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const REMINDER: Duration = Duration::from_secs(10);

/// A data directory's reserve. Several handles of one directory are the same.
#[derive(Clone, Debug)]
pub struct Reserve {
    path: PathBuf,
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
}

impl Reserve {
    /// The reserve of a member's data directory.
    pub fn of(data_dir: &Path) -> Reserve {
        Reserve { path: data_dir.join("member").join(FILE_NAME) }
    }

    /// Measures the disk. May block.
    ///
    /// # Errors
    /// The operating system's.
    pub fn measure(&self) -> io::Result<DiskSpace> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let stat = nix::sys::statvfs::statvfs(dir)?;
        let reserved_bytes = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        Ok(DiskSpace {
            total_bytes: stat.blocks() * stat.fragment_size(),
            free_bytes: stat.blocks_available() * stat.fragment_size(),
            reserved_bytes,
        })
    }

    /// Bytes that the reserve of a disk of this size has.
    pub fn size_bytes(total_bytes: u64) -> u64 {
        RESERVE_BYTES_MAX.min(total_bytes / RESERVE_DISK_PART)
    }

    /// Allocates the reserve. May block.
    ///
    /// # Errors
    /// The operating system's, a full disk among them; nothing is left then.
    pub fn take(&self) -> io::Result<()> {
        let bytes = Self::size_bytes(self.measure()?.total_bytes);
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(&self.path)?;
        let length = i64::try_from(bytes).map_err(io::Error::other)?;
        let allocated = nix::fcntl::posix_fallocate(file.as_fd(), 0, length).map_err(io::Error::from);
        if allocated.is_err() {
            self.give_up()?;
        }
        allocated
    }

    /// Gives the reserve up: its space is free at once.
    ///
    /// # Errors
    /// The operating system's.
    pub fn give_up(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The machine's files, with a reserve: a write to a full disk first uses that up, and then waits for room. The log's
/// writer thus never fails for want of space; what waits for it is not acknowledged, and nothing is lost.
#[derive(Clone, Debug)]
pub(crate) struct ReservedFiles(pub Reserve);

struct ReservedFile {
    file: Arc<dyn File>,
    reserve: Reserve,
}

impl fmt::Debug for ReservedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

/// Tries until it is not for want of space that it fails.
fn until_room<T>(reserve: &Reserve, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut reminded: Option<Instant> = None;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                if reminded.is_none_or(|at| at.elapsed() > REMINDER) {
                    tracing::error!(reserve = %reserve.path.display(), "the disk is full: writes wait for space");
                    reminded = Some(Instant::now());
                }
                if let Err(error) = reserve.give_up() {
                    tracing::error!(%error, "the reserve cannot be given up");
                }
                thread::sleep(RETRY_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

impl ReservedFiles {
    fn guard(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(ReservedFile { file, reserve: self.0.clone() })
    }
}

impl File for ReservedFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Written again from the start: what a failed attempt has left is overwritten.
        until_room(&self.reserve, || self.file.write_all_at(bytes, offset))
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        until_room(&self.reserve, || self.file.set_len(bytes))
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
        until_room(&self.0, || LocalFiles.create(path)).map(|file| self.guard(file))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        until_room(&self.0, || LocalFiles.open(path, create)).map(|file| self.guard(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        until_room(&self.0, || LocalFiles.rename(from, to))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_takes_its_space_and_gives_it_back() {
        let dir = tempfile::TempDir::new().unwrap();
        fs::create_dir(dir.path().join("member")).unwrap();
        let reserve = Reserve::of(dir.path());
        reserve.take().unwrap();
        let taken = reserve.measure().unwrap();
        assert_eq!(taken.reserved_bytes, Reserve::size_bytes(taken.total_bytes));
        reserve.give_up().unwrap();
        reserve.give_up().unwrap();
        assert_eq!(reserve.measure().unwrap().reserved_bytes, 0);
    }

    #[test]
    fn a_write_to_a_full_disk_uses_the_reserve_and_then_waits() {
        let dir = tempfile::TempDir::new().unwrap();
        fs::create_dir(dir.path().join("member")).unwrap();
        let reserve = Reserve::of(dir.path());
        reserve.take().unwrap();
        let mut attempts = 0;
        let outcome = until_room(&reserve, || {
            attempts += 1;
            if attempts < 3 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(reserve.measure()?.reserved_bytes) }
        });
        assert_eq!((outcome.unwrap(), attempts), (0, 3));
    }
}
