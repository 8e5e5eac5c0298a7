//! What the kernel asks.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::{
    errno::Errno as Code,
    fcntl::{FallocateFlags, fallocate},
};

use crate::{
    content::Content,
    state::State,
    tree::{Inode, Kind, Tree, directory},
};

/// Everything goes through this kernel's one mount, so what it knows stays true.
const TTL: Duration = Duration::from_secs(3_600);
/// Bytes of a block, as `stat` counts them.
const STAT_BLOCK: u64 = 512;
/// Preferred bytes of a read or write.
const IO_BYTES: u32 = 4_096;

/// What a directory held when it was opened: number, kind and name of each.
type Listing = Vec<(u64, FileType, OsString)>;

/// The file system; FUSE calls it from several threads.
pub(crate) struct Layer {
    state: Arc<State>,
    /// Directories being read.
    listings: Mutex<HashMap<u64, Listing>>,
    handles: AtomicU64,
}

impl Layer {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state, listings: Mutex::default(), handles: AtomicU64::new(1) }
    }

    fn add(&self, parent: INodeNo, name: &OsStr, kind: Kind, mode: u32, req: &Request) -> Result<FileAttr, Errno> {
        if self.state.present.get().full {
            self.state.present.count_failure();
            return Err(Errno::ENOSPC);
        }
        let mut tree = self.state.tree();
        let number = tree.add(parent.0, name, kind, permissions(mode), (req.uid(), req.gid())).map_err(code)?;
        attributes(&tree, number)
    }

    fn opened(&self, number: u64) -> Result<FileHandle, Errno> {
        self.state.tree().get_mut(number).map_err(code)?.open += 1;
        Ok(FileHandle(self.handles.fetch_add(1, Ordering::Relaxed)))
    }

    fn new_file(&self, parent: INodeNo, name: &OsStr, mode: u32, req: &Request) -> Result<FileAttr, Errno> {
        let content = self.state.new_content().map_err(Errno::from)?;
        self.add(parent, name, Kind::File(Arc::new(Mutex::new(content))), mode, req)
    }

    /// Changes a file's content, if there is space for it.
    fn change(&self, number: u64, end: u64, change: impl FnOnce(&mut Content) -> io::Result<()>) -> Result<(), Errno> {
        let content = self.state.content(number).map_err(code)?;
        {
            let mut content = content.lock().expect("nobody panics with a content");
            if self.state.present.get().full && end > content.allocated() {
                self.state.present.count_failure();
                return Err(Errno::ENOSPC);
            }
            change(&mut content)?;
        }
        self.state.tree().get_mut(number).map_err(code)?.modified = SystemTime::now();
        Ok(())
    }

    fn write_now(&self, ino: INodeNo, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        self.change(ino.0, offset + data.len() as u64, |content| content.write(offset, data))?;
        u32::try_from(data.len()).map_err(|_| Errno::EINVAL)
    }
}

/// Answers a sync, after as long as the disk takes: on a thread of its own, for others need not wait for it.
fn sync_later(state: &Arc<State>, work: impl FnOnce(&State) -> Result<(), Errno> + Send + 'static, reply: ReplyEmpty) {
    let delay = state.present.get().sync_delay;
    let state = Arc::clone(state);
    let finish = move || match work(&state) {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    };
    if delay.is_zero() {
        return finish();
    }
    std::thread::spawn(finish);
}

/// Waits out a slow sync; whether it then fails.
fn endure_sync(state: &State) -> bool {
    let delay = state.present.get().sync_delay;
    if !delay.is_zero() {
        state.present.endure(delay + delay.mul_f64(rand::random::<f64>()));
    }
    let fails = state.present.get().sync_fails;
    if fails {
        state.present.count_failure();
    }
    fails
}

impl Filesystem for Layer {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let tree = self.state.tree();
        let found = tree.lookup(parent.0, name).map_err(code).and_then(|number| attributes(&tree, number));
        answer_entry(found, reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(attributes(&self.state.tree(), ino.0), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = || {
            if let Some(size) = size {
                // A hole takes no space.
                self.change(ino.0, 0, |content| content.resize(size))?;
            }
            let mut tree = self.state.tree();
            let inode = tree.get_mut(ino.0).map_err(code)?;
            inode.mode = mode.map_or(inode.mode, permissions);
            inode.owner = (uid.unwrap_or(inode.owner.0), gid.unwrap_or(inode.owner.1));
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => inode.modified = time,
                Some(TimeOrNow::Now) => inode.modified = SystemTime::now(),
                None => {}
            }
            attributes(&tree, ino.0)
        };
        answer_attributes(set(), reply);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.state.tree().get(ino.0) {
            Ok(Inode { kind: Kind::Symlink(target), .. }) => reply.data(target.as_os_str().as_encoded_bytes()),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(code(error)),
        }
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        answer_entry(self.add(parent, name, directory(), mode & !umask, req), reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        answer_entry(self.add(parent, name, Kind::Symlink(target.to_owned()), 0o777, req), reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut tree = self.state.tree();
        let linked = tree.link(ino.0, parent.0, name).map_err(code).and_then(|()| attributes(&tree, ino.0));
        answer_entry(linked, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.state.tree().remove(parent.0, name, false).map_err(code), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.state.tree().remove(parent.0, name, true).map_err(code), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            return reply.error(Errno::EINVAL);
        }
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let renamed = self.state.tree().rename((parent.0, name), (newparent.0, newname), replace);
        answer(renamed.map_err(code), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.opened(ino.0) {
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn create(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        let created = self.new_file(parent, name, mode & !umask, req);
        match created.and_then(|attr| Ok((attr, self.opened(attr.ino.0)?))) {
            Ok((attr, handle)) => reply.created(&TTL, &attr, Generation(0), handle, FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: u32, reply: ReplyEntry) {
        if mode & 0o170_000 != 0o100_000 {
            return reply.error(Errno::EPERM);
        }
        answer_entry(self.new_file(parent, name, mode & !umask, req), reply);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.state.content(ino.0).map_err(code).and_then(|content| {
            let content = content.lock().expect("nobody panics with a content");
            content.read(offset, u64::from(size)).map_err(Errno::from)
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let delay = self.state.present.get().write_delay;
        if !delay.is_zero() {
            self.state.present.endure(delay);
        }
        match self.write_now(ino, offset, data) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.state.tree().close(ino.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let power = self.state.power();
        let work = move |state: &State| {
            let content = state.content(ino.0).map_err(code)?;
            if endure_sync(state) {
                content.lock().expect("nobody panics with a content").fail_to_sync();
                return Err(Errno::EIO);
            }
            state.sync(&content, power).map_err(Errno::from)?;
            state.journal().map_err(code)
        };
        sync_later(&self.state, work, reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let listing = {
            let tree = self.state.tree();
            tree.names(ino.0).map_err(code).map(|names| {
                let named = names.iter().filter_map(|(name, number)| {
                    Some((*number, file_type(&tree.get(*number).ok()?.kind), name.clone()))
                });
                let dots = [".", ".."].map(|name| (ino.0, FileType::Directory, name.into()));
                dots.into_iter().chain(named).collect()
            })
        };
        match listing {
            Ok(listing) => {
                let handle = self.handles.fetch_add(1, Ordering::Relaxed);
                self.listings.lock().expect("nobody panics with listings").insert(handle, listing);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listings = self.listings.lock().expect("nobody panics with listings");
        let listing = listings.get(&fh.0).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (number, kind, name)) in listing.iter().enumerate().skip(from) {
            if reply.add(INodeNo(*number), index as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.lock().expect("nobody panics with listings").remove(&fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let power = self.state.power();
        let work = move |state: &State| {
            if endure_sync(state) {
                return Err(Errno::EIO);
            }
            let mut tree = state.tree();
            if state.power() != power {
                return Err(Errno::EIO);
            }
            tree.sync_names(ino.0).map_err(code)?;
            drop(tree);
            state.journal().map_err(code)
        };
        sync_later(&self.state, work, reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let full = self.state.present.get().full;
        match nix::sys::statvfs::statvfs(self.state.folder()) {
            Ok(below) => {
                let left = |blocks: u64| if full { 0 } else { blocks };
                reply.statfs(
                    below.blocks(),
                    left(below.blocks_free()),
                    left(below.blocks_available()),
                    below.files(),
                    below.files_free(),
                    u32::try_from(below.block_size()).unwrap_or(IO_BYTES),
                    255,
                    u32::try_from(below.fragment_size()).unwrap_or(IO_BYTES),
                );
            }
            Err(error) => reply.error(code(error)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let flags = FallocateFlags::from_bits_truncate(mode);
        let (end, keep) = (offset + length, flags.contains(FallocateFlags::FALLOC_FL_KEEP_SIZE));
        let overwrites = flags.intersects(FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_ZERO_RANGE);
        let takes = if flags.contains(FallocateFlags::FALLOC_FL_PUNCH_HOLE) { 0 } else { end };
        let done = self.change(ino.0, takes, |content| {
            if overwrites {
                let (at, long) = (offset.cast_signed(), length.cast_signed());
                fallocate(content.live(), flags, at, long)?;
                content.changed(offset..end.min(content.size()).max(offset));
            }
            content.allocate(takes, keep || takes == 0)
        });
        answer(done, reply);
    }
}

fn attributes(tree: &Tree, number: u64) -> Result<FileAttr, Errno> {
    let inode = tree.get(number).map_err(code)?;
    let size = match &inode.kind {
        Kind::File(content) => content.lock().expect("nobody panics with a content").size(),
        Kind::Symlink(target) => target.as_os_str().len() as u64,
        Kind::Directory { .. } => u64::from(IO_BYTES),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(STAT_BLOCK),
        atime: inode.modified,
        mtime: inode.modified,
        ctime: inode.modified,
        crtime: inode.modified,
        kind: file_type(&inode.kind),
        perm: inode.mode,
        nlink: inode.links,
        uid: inode.owner.0,
        gid: inode.owner.1,
        rdev: 0,
        blksize: IO_BYTES,
        flags: 0,
    })
}

fn file_type(kind: &Kind) -> FileType {
    match kind {
        Kind::File(_) => FileType::RegularFile,
        Kind::Directory { .. } => FileType::Directory,
        Kind::Symlink(_) => FileType::Symlink,
    }
}

fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7_777).expect("twelve bits")
}

fn code(error: Code) -> Errno {
    Errno::from_i32(error as i32)
}

fn answer(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn answer_entry(result: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match result {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn answer_attributes(result: Result<FileAttr, Errno>, reply: ReplyAttr) {
    match result {
        Ok(attr) => reply.attr(&TTL, &attr),
        Err(error) => reply.error(error),
    }
}
