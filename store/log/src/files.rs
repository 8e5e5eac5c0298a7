//! What the log needs of the machine: files, and a thread to write them. A simulated disk can stand in for both.

use std::{
    fmt,
    fs::{self, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

/// What keeps a lock file locked.
pub type Lock = Box<dyn Send + Sync>;

/// A file system, and whoever works on it. Errors are the operating system's.
#[allow(clippy::missing_errors_doc, reason = "said once above")]
pub trait Files: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory and those above it.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// The paths in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Makes an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file as it is; `create` makes it if it is missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, in place of what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Locks a file against other processes; `None` if another one holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
    /// Lets the writer work, on a thread of its own if the file system is a real one.
    fn start(&self, writer: Box<dyn Work>) -> io::Result<Option<JoinHandle<()>>>;
    /// Passes on the news that what was synced before is on disk. A simulated disk, whose `sync` returns ahead of the
    /// simulated time, holds them back until then.
    fn report(&self, news: Box<dyn FnOnce() + Send>) {
        news();
    }
    /// The log's user stops: what waits for something to change, such as for room on a full disk, fails from now on.
    fn stop_waiting(&self) {}
}

/// An open file. Errors are the operating system's.
#[allow(clippy::missing_errors_doc, reason = "said once above")]
pub trait File: fmt::Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills `bytes` from `offset`.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Cuts or lengthens the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes contents and all metadata durable.
    fn sync_all(&self) -> io::Result<()>;
}

/// The log's writer, as whoever lets it work sees it.
pub trait Work: Send {
    /// Works until the log is closed, waiting for commands.
    fn run(&mut self);
    /// Does what is queued, without waiting; false once the log is closed.
    fn run_queued(&mut self) -> bool;
}

/// Makes a directory and those above it, durably: a directory whose name was not synced where it lies is lost with all that was
/// synced in it, however carefully. The name of `dir` itself is synced even if it is there, for whoever made it may have died.
///
/// # Errors
/// A directory cannot be made or synced.
pub fn make_dirs(dir: &Path) -> io::Result<()> {
    let holder = |dir: &Path| match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => dir.to_owned(),
    };
    let missing: Vec<&Path> =
        dir.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty() && !above.exists()).collect();
    fs::create_dir_all(dir)?;
    for made in std::iter::once(dir).chain(missing) {
        fs::File::open(holder(made))?.sync_all()?;
    }
    Ok(())
}

/// The machine's own files.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl Files for LocalFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        make_dirs(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = fs::File::create(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn start(&self, mut writer: Box<dyn Work>) -> io::Result<Option<JoinHandle<()>>> {
        let thread = thread::Builder::new().name("raft-log".to_owned());
        thread.spawn(move || writer.run()).map(Some)
    }
}

impl File for fs::File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        fs::File::set_len(self, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        fs::File::sync_all(self)
    }
}
