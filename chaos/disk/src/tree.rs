//! Names: as they are, and as they would be after a power loss.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use nix::errno::Errno;

use crate::content::Content;

/// The root directory, as FUSE numbers it.
pub(crate) const ROOT: u64 = 1;

/// Names of a directory.
pub(crate) type Names = BTreeMap<OsString, u64>;

/// What has names.
#[derive(Debug)]
pub(crate) enum Kind {
    File(Arc<Mutex<Content>>),
    Directory { live: Names, synced: Names },
    Symlink(PathBuf),
}

/// One file, directory or link.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    pub(crate) mode: u16,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: SystemTime,
    pub(crate) links: u32,
    /// Open handles.
    pub(crate) open: u32,
    synced_links: u32,
}

impl Inode {
    fn new(kind: Kind, mode: u16, owner: (u32, u32)) -> Self {
        Self { kind, mode, owner, modified: SystemTime::now(), links: 0, open: 0, synced_links: 0 }
    }

    fn is_gone(&self) -> bool {
        self.links == 0 && self.synced_links == 0 && self.open == 0
    }
}

/// An entry of a directory.
type Entry = (u64, OsString);

/// All of them.
#[derive(Debug)]
pub(crate) struct Tree {
    inodes: HashMap<u64, Inode>,
    next: u64,
    /// Renames from one directory to another that are not saved yet: both ends are saved together.
    renames: Vec<(Entry, Entry)>,
    /// Directories whose names are not saved.
    unsaved: BTreeSet<u64>,
}

impl Tree {
    pub(crate) fn new(mode: u16, owner: (u32, u32)) -> Self {
        let mut root = Inode::new(directory(), mode, owner);
        (root.links, root.synced_links) = (1, 1);
        Self { inodes: HashMap::from([(ROOT, root)]), next: ROOT + 1, renames: Vec::new(), unsaved: BTreeSet::new() }
    }

    pub(crate) fn get(&self, number: u64) -> Result<&Inode, Errno> {
        self.inodes.get(&number).ok_or(Errno::ENOENT)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    pub(crate) fn names(&self, directory: u64) -> Result<&Names, Errno> {
        match &self.get(directory)?.kind {
            Kind::Directory { live, .. } => Ok(live),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn lookup(&self, directory: u64, name: &OsStr) -> Result<u64, Errno> {
        self.names(directory)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(crate) fn add(
        &mut self,
        directory: u64,
        name: &OsStr,
        kind: Kind,
        mode: u16,
        owner: (u32, u32),
    ) -> Result<u64, Errno> {
        if self.names(directory)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        self.inodes.insert(number, Inode::new(kind, mode, owner));
        self.put(directory, name, number)?;
        Ok(number)
    }

    pub(crate) fn link(&mut self, number: u64, directory: u64, name: &OsStr) -> Result<(), Errno> {
        if self.names(directory)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.get(number)?;
        self.put(directory, name, number)
    }

    pub(crate) fn remove(&mut self, directory: u64, name: &OsStr, want_directory: bool) -> Result<(), Errno> {
        let number = self.lookup(directory, name)?;
        match &self.get(number)?.kind {
            Kind::Directory { .. } if !want_directory => return Err(Errno::EISDIR),
            Kind::Directory { live, .. } if !live.is_empty() => return Err(Errno::ENOTEMPTY),
            Kind::File(_) | Kind::Symlink(_) if want_directory => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.take(directory, name)?;
        self.drop_if_gone(number);
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), replace: bool) -> Result<(), Errno> {
        let number = self.lookup(from.0, from.1)?;
        if let Ok(other) = self.lookup(to.0, to.1) {
            if other == number {
                return Ok(());
            }
            if !replace {
                return Err(Errno::EEXIST);
            }
            let is_directory = matches!(self.get(number)?.kind, Kind::Directory { .. });
            self.remove(to.0, to.1, is_directory)?;
        }
        self.take(from.0, from.1)?;
        self.put(to.0, to.1, number)?;
        if from.0 != to.0 {
            self.renames.push(((from.0, from.1.to_owned()), (to.0, to.1.to_owned())));
        }
        Ok(())
    }

    /// Every name is saved, as a journal does with the next thing that is synced.
    pub(crate) fn sync_all_names(&mut self) -> Result<(), Errno> {
        for directory in std::mem::take(&mut self.unsaved) {
            if self.inodes.contains_key(&directory) {
                self.sync_names(directory)?;
            }
        }
        Ok(())
    }

    /// `fsync` of a directory: its names as they are now will be.
    pub(crate) fn sync_names(&mut self, directory: u64) -> Result<(), Errno> {
        let Kind::Directory { live, synced } = &self.get(directory)?.kind else { return Err(Errno::ENOTDIR) };
        let names: HashSet<OsString> = live.keys().chain(synced.keys()).cloned().collect();
        for name in names {
            self.sync_name(directory, &name)?;
        }
        let renames = std::mem::take(&mut self.renames);
        let (touched, untouched) = renames.into_iter().partition(|(from, to)| from.0 == directory || to.0 == directory);
        self.renames = untouched;
        for (from, to) in touched {
            for (other, name) in [from, to] {
                // A directory that is gone keeps no names.
                if other != directory && self.inodes.contains_key(&other) {
                    self.sync_name(other, &name)?;
                }
            }
        }
        Ok(())
    }

    /// Everything that is not saved is gone, handles too.
    pub(crate) fn lose_names(&mut self) {
        self.renames.clear();
        self.unsaved.clear();
        for inode in self.inodes.values_mut() {
            (inode.links, inode.open) = (inode.synced_links, 0);
            if let Kind::Directory { live, synced } = &mut inode.kind {
                live.clone_from(synced);
            }
        }
        let mut reached = HashSet::from([ROOT]);
        let mut ahead = vec![ROOT];
        while let Some(number) = ahead.pop() {
            if let Some(Inode { kind: Kind::Directory { live, .. }, .. }) = self.inodes.get(&number) {
                ahead.extend(live.values().filter(|below| reached.insert(**below)));
            }
        }
        self.inodes.retain(|number, _| reached.contains(number));
    }

    /// Every file's content.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (u64, &Arc<Mutex<Content>>)> {
        self.inodes.iter().filter_map(|(number, inode)| match &inode.kind {
            Kind::File(content) => Some((*number, content)),
            _ => None,
        })
    }

    /// A handle was closed.
    pub(crate) fn close(&mut self, number: u64) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.open = inode.open.saturating_sub(1);
        }
        self.drop_if_gone(number);
    }

    fn sync_name(&mut self, directory: u64, name: &OsStr) -> Result<(), Errno> {
        let Kind::Directory { live, synced } = &mut self.get_mut(directory)?.kind else { return Err(Errno::ENOTDIR) };
        let new = live.get(name).copied();
        let old = match new {
            Some(number) => synced.insert(name.to_owned(), number),
            None => synced.remove(name),
        };
        if let Some(inode) = new.and_then(|number| self.inodes.get_mut(&number)) {
            inode.synced_links += 1;
        }
        if let Some(number) = old {
            if let Some(inode) = self.inodes.get_mut(&number) {
                inode.synced_links = inode.synced_links.saturating_sub(1);
            }
            self.drop_if_gone(number);
        }
        Ok(())
    }

    fn put(&mut self, directory: u64, name: &OsStr, number: u64) -> Result<(), Errno> {
        self.unsaved.insert(directory);
        let Kind::Directory { live, .. } = &mut self.get_mut(directory)?.kind else { return Err(Errno::ENOTDIR) };
        live.insert(name.to_owned(), number);
        self.touch(directory);
        self.get_mut(number)?.links += 1;
        Ok(())
    }

    fn take(&mut self, directory: u64, name: &OsStr) -> Result<(), Errno> {
        self.unsaved.insert(directory);
        let Kind::Directory { live, .. } = &mut self.get_mut(directory)?.kind else { return Err(Errno::ENOTDIR) };
        let number = live.remove(name).ok_or(Errno::ENOENT)?;
        self.touch(directory);
        let inode = self.get_mut(number)?;
        inode.links = inode.links.saturating_sub(1);
        Ok(())
    }

    fn touch(&mut self, number: u64) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.modified = SystemTime::now();
        }
    }

    fn drop_if_gone(&mut self, number: u64) {
        if number != ROOT && self.inodes.get(&number).is_some_and(Inode::is_gone) {
            self.inodes.remove(&number);
        }
    }
}

/// An empty directory.
pub(crate) fn directory() -> Kind {
    Kind::Directory { live: Names::new(), synced: Names::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shelf(Tree);

    impl Shelf {
        fn new() -> Self {
            Self(Tree::new(0o755, (0, 0)))
        }

        fn file(&mut self, directory: u64, name: &str) -> u64 {
            let content = Content::new(tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            let kind = Kind::File(Arc::new(Mutex::new(content)));
            self.0.add(directory, OsStr::new(name), kind, 0o644, (0, 0)).unwrap()
        }

        fn directory(&mut self, parent: u64, name: &str) -> u64 {
            self.0.add(parent, OsStr::new(name), directory(), 0o755, (0, 0)).unwrap()
        }

        fn rename(&mut self, from: (u64, &str), to: (u64, &str)) {
            self.0.rename((from.0, OsStr::new(from.1)), (to.0, OsStr::new(to.1)), true).unwrap();
        }

        fn names(&self, directory: u64) -> Vec<String> {
            self.0.names(directory).unwrap().keys().map(|name| name.to_string_lossy().into_owned()).collect()
        }
    }

    #[test]
    fn names_are_lost_until_their_directory_is_synced() {
        let mut shelf = Shelf::new();
        shelf.file(ROOT, "a");
        shelf.0.sync_names(ROOT).unwrap();
        shelf.file(ROOT, "b");
        shelf.0.remove(ROOT, OsStr::new("a"), false).unwrap();
        assert_eq!(shelf.names(ROOT), ["b"]);
        shelf.0.lose_names();
        assert_eq!(shelf.names(ROOT), ["a"], "a deletion that was not synced is undone");
        assert_eq!(shelf.0.contents().count(), 1);
    }

    #[test]
    fn a_directory_is_lost_with_all_it_holds_unless_its_own_name_was_synced() {
        let mut shelf = Shelf::new();
        let below = shelf.directory(ROOT, "d");
        shelf.file(below, "x");
        shelf.0.sync_names(below).unwrap();
        shelf.0.lose_names();
        assert_eq!(shelf.names(ROOT), Vec::<String>::new());
        assert!(shelf.0.get(below).is_err());
    }

    #[test]
    fn a_rename_over_a_file_leaves_the_old_or_the_new() {
        let mut shelf = Shelf::new();
        let old = shelf.file(ROOT, "a");
        shelf.0.sync_names(ROOT).unwrap();
        let new = shelf.file(ROOT, "a.new");
        shelf.rename((ROOT, "a.new"), (ROOT, "a"));
        assert_eq!(shelf.0.lookup(ROOT, OsStr::new("a")), Ok(new));
        shelf.0.lose_names();
        assert_eq!(shelf.0.lookup(ROOT, OsStr::new("a")), Ok(old));
        let new = shelf.file(ROOT, "a.new");
        shelf.rename((ROOT, "a.new"), (ROOT, "a"));
        shelf.0.sync_names(ROOT).unwrap();
        shelf.0.lose_names();
        assert_eq!((shelf.0.lookup(ROOT, OsStr::new("a")), shelf.names(ROOT)), (Ok(new), vec!["a".to_owned()]));
        assert!(shelf.0.get(old).is_err(), "nothing is kept of it");
    }

    #[test]
    fn a_rename_between_directories_is_saved_at_both_ends_or_not_at_all() {
        let mut shelf = Shelf::new();
        let (left, right) = (shelf.directory(ROOT, "l"), shelf.directory(ROOT, "r"));
        shelf.file(left, "a");
        for directory in [ROOT, left, right] {
            shelf.0.sync_names(directory).unwrap();
        }
        shelf.rename((left, "a"), (right, "b"));
        shelf.0.lose_names();
        assert_eq!((shelf.names(left), shelf.names(right)), (vec!["a".to_owned()], vec![]));
        shelf.rename((left, "a"), (right, "b"));
        shelf.0.sync_names(right).unwrap();
        shelf.0.lose_names();
        assert_eq!((shelf.names(left), shelf.names(right)), (vec![], vec!["b".to_owned()]));
    }

    #[test]
    fn a_journal_saves_every_name() {
        let mut shelf = Shelf::new();
        let below = shelf.directory(ROOT, "d");
        shelf.file(below, "x");
        shelf.0.sync_all_names().unwrap();
        shelf.0.lose_names();
        assert_eq!((shelf.names(ROOT), shelf.names(below)), (vec!["d".to_owned()], vec!["x".to_owned()]));
    }

    #[test]
    fn a_second_name_keeps_a_file() {
        let mut shelf = Shelf::new();
        let number = shelf.file(ROOT, "a");
        shelf.0.link(number, ROOT, OsStr::new("b")).unwrap();
        assert_eq!(shelf.0.get(number).unwrap().links, 2);
        shelf.0.remove(ROOT, OsStr::new("a"), false).unwrap();
        shelf.0.sync_names(ROOT).unwrap();
        shelf.0.lose_names();
        assert_eq!(shelf.names(ROOT), ["b"]);
        assert_eq!(shelf.0.get(number).unwrap().links, 1);
    }

    #[test]
    fn an_open_file_lives_on_without_a_name() {
        let mut shelf = Shelf::new();
        let number = shelf.file(ROOT, "a");
        shelf.0.get_mut(number).unwrap().open += 1;
        shelf.0.remove(ROOT, OsStr::new("a"), false).unwrap();
        assert!(shelf.0.get(number).is_ok());
        shelf.0.close(number);
        assert!(shelf.0.get(number).is_err());
    }
}
