//! What the file system and its owner share.

use std::{
    fs::{File, OpenOptions},
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use rand::{SeedableRng as _, rngs::StdRng};

use crate::{
    Names,
    conditions::Present,
    content::Content,
    tree::{Kind, Tree},
};

/// Names in memory, contents in files of a folder.
#[derive(Debug)]
pub(crate) struct State {
    tree: Mutex<Tree>,
    pub(crate) present: Present,
    folder: PathBuf,
    names: Names,
    /// Counts power losses: what was asked before one is not done after it.
    power: AtomicU64,
    /// Counts files made, for their names.
    made: AtomicU64,
}

impl State {
    pub(crate) fn new(folder: PathBuf, names: Names, tree: Tree) -> Self {
        Self {
            tree: Mutex::new(tree),
            present: Present::default(),
            folder,
            names,
            power: AtomicU64::new(0),
            made: AtomicU64::new(0),
        }
    }

    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().expect("nobody panics with the tree")
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub(crate) fn power(&self) -> u64 {
        self.power.load(Ordering::SeqCst)
    }

    /// Files for the content of a new file. They have no names: nothing is left of them when this process ends.
    pub(crate) fn new_content(&self) -> io::Result<Content> {
        let open = || -> io::Result<File> {
            let path = self.folder.join(format!("new-{}", self.made.fetch_add(1, Ordering::Relaxed)));
            let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        };
        Ok(Content::new(open()?, open()?))
    }

    /// Saves one file, unless the power has failed since `power`.
    pub(crate) fn sync(&self, content: &Mutex<Content>, power: u64) -> io::Result<()> {
        let mut content = content.lock().expect("nobody panics with a content");
        if self.power() != power {
            return Err(nix::errno::Errno::EIO.into());
        }
        content.sync()
    }

    /// Something was synced: a journal has saved every name before it.
    pub(crate) fn journal(&self) -> Result<(), nix::errno::Errno> {
        if self.names == Names::Journal { self.tree().sync_all_names() } else { Ok(()) }
    }

    /// Saves everything.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        let mut tree = self.tree();
        tree.sync_all_names()?;
        let power = self.power();
        tree.contents().try_for_each(|(_, content)| self.sync(content, power))
    }

    /// Forgets everything that is not saved; with a seed, of unsynced writes some sectors are kept.
    pub(crate) fn lose(&self, torn: Option<u64>) -> io::Result<()> {
        self.power.fetch_add(1, Ordering::SeqCst);
        let mut tree = self.tree();
        tree.lose_names();
        for (number, content) in tree.contents() {
            let mut content = content.lock().expect("nobody panics with a content");
            // Each file has a chance of its own, so that the order of files does not matter.
            let mut rng = torn.map(|seed| StdRng::seed_from_u64(seed.wrapping_add(number)));
            content.lose(rng.as_mut())?;
        }
        Ok(())
    }

    pub(crate) fn content(&self, number: u64) -> Result<Arc<Mutex<Content>>, nix::errno::Errno> {
        match &self.tree().get(number)?.kind {
            Kind::File(content) => Ok(Arc::clone(content)),
            Kind::Directory { .. } => Err(nix::errno::Errno::EISDIR),
            Kind::Symlink(_) => Err(nix::errno::Errno::EINVAL),
        }
    }
}
