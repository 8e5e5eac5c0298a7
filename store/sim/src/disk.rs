//! A simulated disk for the Raft log: it knows what was written and what was synced, and forgets the difference.
//!
//! Work is done at once, but stamped with the simulated time at which it would have happened: a sync takes its time, what
//! comes behind it is later. News that something is on disk is held back until then, and a crash undoes what lay in the
//! future, keeps what was synced, and is arbitrary about the rest: sectors of 512 bytes are there or not, names come and
//! go in order, lengths may be longer than contents.
//!
//! On a full disk a write never ends: the log's writer waits in it until there is space (`ReservedFiles` in
//! `store/raft/src/reserve.rs`). It and all that comes behind it happen then. A crash before that leaves at most the first
//! sectors of that write.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use parking_lot::Mutex;
use xebec_store_log::{File, Files, Lock, Work};

use xebec_store_dice::Dice;

/// What a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;

/// When what waits for space happens, as long as there is none.
const NOT_BEFORE_SPACE: u64 = u64::MAX;

/// How a disk behaves.
#[derive(Debug, Clone, Copy)]
pub struct DiskSpeed {
    /// A sync takes at least this long.
    pub sync_micros_min: u64,
    /// And less than this.
    pub sync_micros_max: u64,
}

/// How a member ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The process died: what was written is there.
    Killed,
    /// The machine lost power: what was not synced may be gone.
    PowerLoss,
}

/// What a crash did to what was not synced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Some of it is there and some is not.
    pub torn: bool,
    /// Some of it is garbage, which nobody can tell from damage to synced data.
    pub garbage: bool,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug)]
enum Op {
    Write { inode: u64, offset: u64, bytes: Vec<u8> },
    SetLen { inode: u64, length: u64 },
    Name { name: PathBuf, inode: Option<u64> },
    SyncFile(u64),
    SyncNames,
}

struct Inner {
    dice: Dice,
    speed: DiskSpeed,
    now_micros: u64,
    busy_until_micros: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    inodes: BTreeMap<u64, Contents>,
    next_inode: u64,
    /// What is not known to be durable, with the time it happens.
    journal: VecDeque<(u64, Op)>,
    news: VecDeque<(u64, Box<dyn FnOnce() + Send>)>,
    writer: Option<Box<dyn Work>>,
    /// Counts crashes: open files of earlier lives are dead.
    life: u64,
    fail_syncs: bool,
    is_full: bool,
    syncs: u64,
    /// Where crashes left garbage: inode, offset, length.
    garbage: Vec<(u64, u64, usize)>,
}

/// The disk. Clones are the same one.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Inner>>);

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
}

fn put(contents: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[start..end].copy_from_slice(bytes);
}

fn name_of(path: &Path) -> PathBuf {
    path.file_name().map(PathBuf::from).unwrap_or_default()
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Inner {
    fn at(&self) -> u64 {
        self.now_micros.max(self.busy_until_micros)
    }

    fn note(&mut self, op: Op) {
        if self.is_full && matches!(op, Op::Write { .. } | Op::Name { inode: Some(_), .. }) {
            self.busy_until_micros = NOT_BEFORE_SPACE;
        }
        let at = self.at();
        self.journal.push_back((at, op));
    }

    fn sync(&mut self, op: Op) -> io::Result<()> {
        if self.fail_syncs {
            return Err(io::Error::other("input/output error (simulated)"));
        }
        let took = self.dice.within(self.speed.sync_micros_min, self.speed.sync_micros_max);
        self.busy_until_micros = self.at().saturating_add(took);
        self.syncs += 1;
        self.note(op);
        Ok(())
    }

    fn file(&mut self, inode: u64, life: u64) -> io::Result<&mut Contents> {
        if life != self.life {
            return Err(io::Error::other("the machine has crashed"));
        }
        self.inodes.get_mut(&inode).ok_or_else(missing)
    }

    /// What waited for space happens now, in its order, each sync in its time.
    fn go_on(&mut self) {
        let mut at = self.now_micros;
        let speed = self.speed;
        for (when, op) in self.journal.iter_mut().filter(|(when, _)| *when == NOT_BEFORE_SPACE) {
            if matches!(op, Op::SyncFile(_) | Op::SyncNames) {
                at += self.dice.within(speed.sync_micros_min, speed.sync_micros_max);
            }
            *when = at;
        }
        for (when, _) in self.news.iter_mut().filter(|(when, _)| *when == NOT_BEFORE_SPACE) {
            *when = at;
        }
        self.busy_until_micros = at;
    }

    /// What a write that waits for space has left: as many sectors as still went in.
    fn begun_write(&mut self) -> Option<Op> {
        let waiting = self.journal.iter().find(|(at, _)| *at == NOT_BEFORE_SPACE);
        let Some((_, Op::Write { inode, offset, bytes })) = waiting else { return None };
        let sectors = bytes.len() / SECTOR_BYTES as usize;
        let (inode, offset, kept) = (*inode, *offset, self.dice.below(sectors + 1) * SECTOR_BYTES as usize);
        let bytes = bytes[..kept].to_vec();
        (kept > 0).then_some(Op::Write { inode, offset, bytes })
    }

    /// Carries out what syncs have made durable by now.
    fn settle(&mut self) {
        let now = self.now_micros;
        while let Some(position) =
            self.journal.iter().position(|(at, op)| *at <= now && matches!(op, Op::SyncFile(_) | Op::SyncNames))
        {
            let Some((_, sync)) = self.journal.remove(position) else { return };
            let mut index = 0;
            let mut limit = position;
            while index < limit {
                let covered = match (&self.journal[index].1, &sync) {
                    (Op::Write { inode, .. } | Op::SetLen { inode, .. }, Op::SyncFile(synced)) => inode == synced,
                    (Op::Name { .. }, Op::SyncNames) => true,
                    _ => false,
                };
                if covered && let Some((_, op)) = self.journal.remove(index) {
                    self.make_durable(op);
                    limit -= 1;
                } else {
                    index += 1;
                }
            }
        }
    }

    fn make_durable(&mut self, op: Op) {
        match op {
            Op::Write { inode, offset, bytes } => {
                put(&mut self.inodes.entry(inode).or_default().durable, offset, &bytes);
            }
            Op::SetLen { inode, length } => {
                self.inodes.entry(inode).or_default().durable.resize(length as usize, 0);
            }
            Op::Name { name, inode: Some(inode) } => {
                self.durable_names.insert(name, inode);
            }
            Op::Name { name, inode: None } => {
                self.durable_names.remove(&name);
            }
            Op::SyncFile(_) | Op::SyncNames => {}
        }
    }

    /// A crash's idea of one unsynced write.
    fn tear(&mut self, inode: u64, offset: u64, bytes: &[u8], damage: &mut Damage) {
        let fate = self.dice.within(0, 4);
        let garbage = self.dice.per_million(30_000);
        let mut at = offset;
        let end = offset + bytes.len() as u64;
        while at < end {
            let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            let keep = match fate {
                0 => false,
                1 => true,
                _ => self.dice.percent(50),
            };
            let piece = &bytes[(at - offset) as usize..(next - offset) as usize];
            let beyond = at >= self.inodes.entry(inode).or_default().durable.len() as u64;
            if keep {
                put(&mut self.inodes.entry(inode).or_default().durable, at, piece);
            } else if garbage && beyond {
                let noise: Vec<u8> = piece.iter().map(|_| self.dice.next() as u8).collect();
                put(&mut self.inodes.entry(inode).or_default().durable, at, &noise);
                damage.garbage = true;
                self.garbage.push((inode, at, noise.len()));
            } else if beyond && self.dice.percent(50) {
                // The length came, the contents did not.
                put(&mut self.inodes.entry(inode).or_default().durable, at, &vec![0; piece.len()]);
                damage.torn = true;
            } else {
                damage.torn = true;
            }
            at = next;
        }
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(dice: Dice, speed: DiskSpeed) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            dice,
            speed,
            now_micros: 0,
            busy_until_micros: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            journal: VecDeque::new(),
            news: VecDeque::new(),
            writer: None,
            life: 0,
            fail_syncs: false,
            is_full: false,
            syncs: 0,
            garbage: Vec::new(),
        })))
    }

    /// Lets the disk work until `now_micros`.
    pub fn advance(&self, now_micros: u64) {
        let (due, writer) = {
            let mut inner = self.0.lock();
            inner.now_micros = now_micros;
            inner.settle();
            let due = inner.news.iter().take_while(|(at, _)| *at <= now_micros).count();
            let due: Vec<_> = inner.news.drain(..due).collect();
            let writer = if inner.busy_until_micros <= now_micros { inner.writer.take() } else { None };
            (due, writer)
        };
        // Outside the lock: both come back to this disk.
        for (_, news) in due {
            news();
        }
        if let Some(mut writer) = writer
            && writer.run_queued()
        {
            self.0.lock().writer = Some(writer);
        }
    }

    /// How long syncs take from now on.
    pub fn set_speed(&self, speed: DiskSpeed) {
        self.0.lock().speed = speed;
    }

    /// Makes syncs fail from now on, until the next crash.
    pub fn fail_syncs(&self) {
        self.0.lock().fail_syncs = true;
    }

    /// Whether there is no space from now on, until it is told otherwise or the member ends: what filled the disk is then
    /// removed, or the reserve for a start is given up.
    pub fn set_full(&self, is_full: bool) {
        let mut inner = self.0.lock();
        inner.is_full = is_full;
        if !is_full && inner.busy_until_micros == NOT_BEFORE_SPACE {
            inner.go_on();
        }
    }

    /// Syncs done so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// The member is gone; decides what is left.
    pub fn crash(&self, ending: Ending) -> Damage {
        let (writer, news, damage) = {
            let mut inner = self.0.lock();
            inner.settle();
            let now = inner.now_micros;
            let begun = inner.begun_write();
            let happened: Vec<Op> = std::mem::take(&mut inner.journal)
                .into_iter()
                .filter(|(at, _)| *at <= now)
                .map(|(_, op)| op)
                .chain(begun)
                .collect();
            let mut damage = Damage::default();
            inner.garbage.clear();
            // Names become durable in order, contents in any.
            let mut names_kept = match ending {
                Ending::Killed => happened.len(),
                Ending::PowerLoss => inner.dice.below(happened.len() + 1),
            };
            for op in happened {
                match op {
                    op if ending == Ending::Killed => inner.make_durable(op),
                    Op::Write { inode, offset, bytes } => inner.tear(inode, offset, &bytes, &mut damage),
                    op @ Op::SetLen { .. } => {
                        if inner.dice.percent(50) {
                            inner.make_durable(op);
                        }
                    }
                    op @ Op::Name { .. } => {
                        if names_kept > 0 {
                            names_kept -= 1;
                            inner.make_durable(op);
                        }
                    }
                    Op::SyncFile(_) | Op::SyncNames => {}
                }
            }
            inner.names = inner.durable_names.clone();
            let named: BTreeSet<u64> = inner.names.values().copied().collect();
            inner.inodes.retain(|inode, _| named.contains(inode));
            for contents in inner.inodes.values_mut() {
                contents.now = contents.durable.clone();
            }
            inner.life += 1;
            inner.fail_syncs = false;
            inner.is_full = false;
            inner.busy_until_micros = now;
            (inner.writer.take(), std::mem::take(&mut inner.news), damage)
        };
        // Outside the lock: both may hold files of this disk.
        drop((writer, news));
        damage
    }

    /// Flips a bit of synced data while the member is down, in a segment that starts or ends what the log needs.
    /// Answers with the file and the offset.
    pub fn flip_bit(&self) -> Option<(PathBuf, u64)> {
        let mut inner = self.0.lock();
        let candidates: Vec<(PathBuf, u64)> = inner
            .names
            .iter()
            .filter(|(name, _)| {
                name.extension().is_some_and(|extension| extension == "seg") || name.as_os_str() == "state"
            })
            .filter(|(_, inode)| inner.inodes.get(inode).is_some_and(|contents| !contents.now.is_empty()))
            .map(|(name, inode)| (name.clone(), *inode))
            .collect();
        if candidates.is_empty() {
            return None;
        }
        let (name, inode) = inner.dice.pick(&candidates).clone();
        let length = inner.inodes.get(&inode)?.now.len() as u64;
        let (offset, bit) = (inner.dice.within(0, length), inner.dice.below(8));
        let contents = inner.inodes.get_mut(&inode)?;
        contents.now[offset as usize] ^= 1 << bit;
        contents.durable = contents.now.clone();
        Some((name, offset))
    }

    /// Turns the garbage of the last crashes into sectors that were never written.
    pub fn clean_garbage(&self) {
        let mut inner = self.0.lock();
        for (inode, offset, length) in std::mem::take(&mut inner.garbage) {
            if let Some(contents) = inner.inodes.get_mut(&inode) {
                put(&mut contents.durable, offset, &vec![0; length]);
                contents.now = contents.durable.clone();
            }
        }
    }

    /// All that is on the disk, to be put back by [`SimDisk::restore`].
    #[must_use]
    pub fn backup(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let inner = self.0.lock();
        let contents = |inode: &u64| inner.inodes.get(inode).map(|contents| contents.now.clone()).unwrap_or_default();
        inner.names.iter().map(|(name, inode)| (name.clone(), contents(inode))).collect()
    }

    /// Puts back what [`SimDisk::backup`] took, while the member is down.
    pub fn restore(&self, backup: Vec<(PathBuf, Vec<u8>)>) {
        let mut inner = self.0.lock();
        inner.names.clear();
        inner.inodes.clear();
        inner.journal.clear();
        for (name, bytes) in backup {
            let inode = inner.next_inode;
            inner.next_inode += 1;
            inner.names.insert(name, inode);
            inner.inodes.insert(inode, Contents { now: bytes.clone(), durable: bytes });
        }
        inner.durable_names = inner.names.clone();
    }

    fn opened(&self, inode: u64, life: u64) -> Arc<dyn File> {
        Arc::new(SimFile { disk: self.clone(), inode, life })
    }
}

impl Files for SimDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.lock().names.keys().map(|name| dir.join(name)).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.0.lock();
        let inode = inner.names.get(&name_of(path)).ok_or_else(missing)?;
        Ok(inner.inodes.get(inode).ok_or_else(missing)?.now.clone())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut inner = self.0.lock();
        let name = name_of(path);
        let inode = match inner.names.get(&name).copied() {
            Some(inode) => {
                inner.inodes.entry(inode).or_default().now.clear();
                inner.note(Op::SetLen { inode, length: 0 });
                inode
            }
            None => {
                let inode = inner.next_inode;
                inner.next_inode += 1;
                inner.inodes.insert(inode, Contents::default());
                inner.names.insert(name.clone(), inode);
                inner.note(Op::Name { name, inode: Some(inode) });
                inode
            }
        };
        Ok(self.opened(inode, inner.life))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let known = {
            let inner = self.0.lock();
            inner.names.get(&name_of(path)).map(|inode| (*inode, inner.life))
        };
        match known {
            Some((inode, life)) => Ok(self.opened(inode, life)),
            None if create => self.create(path),
            None => Err(missing()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        let (from, to) = (name_of(from), name_of(to));
        let inode = inner.names.remove(&from).ok_or_else(missing)?;
        inner.names.insert(to.clone(), inode);
        // The new name first: a crash may leave both, never neither.
        inner.note(Op::Name { name: to, inode: Some(inode) });
        inner.note(Op::Name { name: from, inode: None });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.0.lock();
        let name = name_of(path);
        inner.names.remove(&name).ok_or_else(missing)?;
        inner.note(Op::Name { name, inode: None });
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.0.lock().sync(Op::SyncNames)
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Box::new(())))
    }

    fn start(&self, writer: Box<dyn Work>) -> io::Result<Option<JoinHandle<()>>> {
        self.0.lock().writer = Some(writer);
        Ok(None)
    }

    fn report(&self, news: Box<dyn FnOnce() + Send>) {
        let mut inner = self.0.lock();
        let at = inner.at();
        inner.news.push_back((at, news));
    }
}

impl File for SimFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        put(&mut inner.file(self.inode, self.life)?.now, offset, bytes);
        inner.note(Op::Write { inode: self.inode, offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        let contents = inner.file(self.inode, self.life)?;
        let start = offset as usize;
        let found = contents.now.get(start..start + bytes.len());
        bytes.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        inner.file(self.inode, self.life)?.now.resize(length as usize, 0);
        inner.note(Op::SetLen { inode: self.inode, length });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        inner.file(self.inode, self.life)?;
        inner.sync(Op::SyncFile(self.inode))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}
