//! A mounted disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fuser::{BackgroundSession, Config, MountOption};
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sys::statvfs::statvfs,
    unistd::{getgid, getuid},
};

use crate::{Conditions, filesystem::Layer, state::State, tree::Tree};

/// What the kernel's table of mounts calls it.
const SOURCE: &str = "xebec-chaos";
/// Threads that answer the kernel for one disk.
const THREADS: usize = 2;
/// The kernel lets go of a disk without users within this time.
const UNMOUNT_MAX: Duration = Duration::from_secs(10);

/// What is lost with the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything that was not synced.
    Unsynced,
    /// The same, but of a file's unsynced writes the first few are there, and of the next one whole sectors from its beginning;
    /// how many is up to chance.
    Torn {
        /// The chance.
        seed: u64,
    },
}

/// When a name is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// When its directory is synced, as POSIX has it.
    Strict,
    /// When anything is synced, as journaling file systems do (ext4, XFS).
    Journal,
}

/// A disk, mounted until it is dropped.
#[derive(Debug)]
pub struct Disk {
    state: Arc<State>,
    mountpoint: PathBuf,
    session: Mutex<Option<BackgroundSession>>,
}

impl Disk {
    /// An empty disk at `mountpoint`, which is made if it is not there. Contents lie in `folder` while it is mounted.
    ///
    /// # Errors
    /// The folders cannot be made, or the system refuses to mount: without root, FUSE takes `fusermount3`.
    pub fn mount(mountpoint: &Path, folder: &Path, names: Names) -> io::Result<Self> {
        fs::create_dir_all(mountpoint)?;
        fs::create_dir_all(folder)?;
        let tree = Tree::new(0o700, (getuid().as_raw(), getgid().as_raw()));
        let state = Arc::new(State::new(folder.to_owned(), names, tree));
        let disk = Self { state, mountpoint: mountpoint.to_owned(), session: Mutex::default() };
        disk.attach()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// How it behaves from now on.
    pub fn set(&self, conditions: Conditions) {
        self.state.present.set(conditions);
    }

    /// How often something failed because of its conditions since this was asked last.
    pub fn take_failures(&self) -> u64 {
        self.state.present.take_failures()
    }

    /// Saves everything, as `sync` would.
    ///
    /// # Errors
    /// Contents cannot be written.
    pub fn sync(&self) -> io::Result<()> {
        self.state.sync_all()
    }

    /// The power fails and comes back: the disk is mounted again, with what was synced. Nobody may use it meanwhile; kill its users first.
    ///
    /// # Errors
    /// The disk is in use, or cannot be mounted again.
    pub fn power_loss(&self, loss: Loss) -> io::Result<()> {
        self.detach()?;
        let torn = match loss {
            Loss::Unsynced => None,
            Loss::Torn { seed } => Some(seed),
        };
        self.state.lose(torn)?;
        self.attach()
    }

    /// Unmounts it; what it held is gone.
    ///
    /// # Errors
    /// The disk is in use.
    pub fn remove(&self) -> io::Result<()> {
        self.detach()?;
        match fs::remove_dir_all(self.state.folder()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn attach(&self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(SOURCE.to_owned()), MountOption::NoAtime];
        config.n_threads = Some(THREADS);
        let session = fuser::spawn_mount(Layer::new(Arc::clone(&self.state)), &self.mountpoint, &config)?;
        *self.session.lock().expect("nobody panics with the session") = Some(session);
        Ok(())
    }

    /// The threads of a killed process let go of their files one after the other; until then the disk is busy.
    fn unmount(&self, deadline: Instant) {
        while umount2(&self.mountpoint, MntFlags::empty()) == Err(Errno::EBUSY) {
            if Instant::now() > deadline {
                // In nobody's way any more, at least.
                return umount2(&self.mountpoint, MntFlags::MNT_DETACH).unwrap_or(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn detach(&self) -> io::Result<()> {
        let deadline = Instant::now() + UNMOUNT_MAX;
        // Whoever waits for a slow disk would keep it busy.
        let conditions = self.state.present.get();
        self.state.present.set(Conditions { sync_delay: Duration::ZERO, write_delay: Duration::ZERO, ..conditions });
        let thread = {
            let session = self.session.lock().expect("nobody panics with the session").take();
            let Some(session) = session else { return Ok(()) };
            self.unmount(deadline);
            // If it could not be unmounted, the rest of the session tries again as it is dropped here. Its thread ends when the kernel
            // has let go.
            session.guard
        };
        while !thread.is_finished() {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{} is still in use", self.mountpoint.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.state.present.set(conditions);
        thread.join().map_err(|_| io::Error::other("the disk's thread panicked"))?
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nobody is left to tell; a mount that stays is swept by the next run.
        drop(self.remove());
    }
}

/// Unmounts disks whose process died before it could; how many.
///
/// # Errors
/// The table of mounts cannot be read.
pub fn sweep() -> io::Result<usize> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let mut swept = 0;
    for line in table.lines().filter(|line| line.starts_with(&format!("{SOURCE} "))) {
        let Some(mountpoint) = line.split(' ').nth(1) else { continue };
        if statvfs(mountpoint) == Err(Errno::ENOTCONN) && umount2(mountpoint, MntFlags::MNT_DETACH).is_ok() {
            swept += 1;
        }
    }
    Ok(swept)
}
