use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::SnapshotError;
use crate::page::{
    BRANCH, BUCKET_FLAG, ELEMENT_BYTES, FREELIST, FREELIST_COUNT_OVERFLOW, HEADER_BYTES, Header, LEAF, META, Meta,
    NO_FREELIST, u32_at, u64_at,
};

/// Levels a tree may have; far above any real one, so that a circle of pages ends.
const DEPTH_MAX: usize = 40;
/// Pages that one page may continue on: 1 GiB of 4 KiB pages.
const OVERFLOW_PAGES_MAX: u32 = 1 << 18;
/// Page sizes at which the second meta page is looked for if the first is damaged.
const PAGE_SIZES: [u64; 7] = [1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// A bbolt database, read with every page checked: its number, its kind, the bounds of its elements, the order of keys.
/// Only one page a level is in memory.
#[derive(Debug)]
pub struct Database {
    file: File,
    path: PathBuf,
    size_bytes: u64,
    pub(crate) meta: Meta,
}

/// A bucket's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bucket {
    /// On pages of its own.
    Page(u64),
    /// In the value of its name: a leaf, and the offset of the page that holds it.
    Inline(Vec<u8>, u64),
}

/// Called with each key and value; the outcome other than success ends the walk.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> Result<(), SnapshotError> + 'v;
/// Called with each leaf element's flags too.
type VisitElement<'v> = dyn FnMut(u32, &[u8], &[u8]) -> Result<(), SnapshotError> + 'v;
/// Called with each page's first number and how many it spans.
pub(crate) type VisitPage<'v> = dyn FnMut(u64, u64) -> Result<(), SnapshotError> + 'v;

/// The last key seen in a walk, which the next must be above.
struct Walk<'w> {
    last: Option<Vec<u8>>,
    visit: &'w mut VisitElement<'w>,
    pages: &'w mut VisitPage<'w>,
    /// Pages that may still come; a damaged tree must not be walked for ever.
    left: u64,
}

impl Database {
    /// Opens a database and checks its meta pages. A checksum behind it is passed over.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`], [`SnapshotError::Io`].
    pub fn open(path: &Path) -> Result<Database, SnapshotError> {
        let file = File::open(path).map_err(SnapshotError::io(path))?;
        let size_bytes = file.metadata().map_err(SnapshotError::io(path))?.len();
        let meta_at = |offset: u64| {
            let mut page = vec![0; 128];
            match file.read_exact_at(&mut page, offset) {
                Ok(()) => Meta::read(&page),
                Err(_) => Err("the file ends within a meta page"),
            }
        };
        let first = meta_at(0);
        let second = match &first {
            Ok(meta) => meta_at(u64::from(meta.page_bytes)),
            Err(_) => PAGE_SIZES
                .into_iter()
                .map(|at| meta_at(at).and_then(|it| if u64::from(it.page_bytes) == at { Ok(it) } else { Err("") }))
                .find(Result::is_ok)
                .unwrap_or(Err("")),
        };
        let meta = match (first, second) {
            (Ok(first), Ok(second)) if second.transaction > first.transaction => second,
            (Ok(first), _) => first,
            (Err(_), Ok(second)) => second,
            (Err(reason), Err(_)) => {
                return Err(SnapshotError::Damaged { path: path.to_owned(), offset: 0, reason: reason.to_owned() });
            }
        };
        let database = Database { file, path: path.to_owned(), size_bytes, meta };
        let page_bytes = database.page_bytes();
        if meta.high_water.checked_mul(page_bytes).is_none_or(|used| used > size_bytes) {
            let reason = format!("the file ends here, but has {} pages of {page_bytes} bytes", meta.high_water);
            return Err(database.damaged_at(size_bytes, reason));
        }
        Ok(database)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the database that are in use, without what follows it.
    pub fn size_bytes(&self) -> u64 {
        self.meta.high_water * self.page_bytes()
    }

    pub(crate) fn page_bytes(&self) -> u64 {
        u64::from(self.meta.page_bytes)
    }

    /// The buckets by name, in order.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`].
    pub(crate) fn buckets(&self, pages: Option<&mut VisitPage<'_>>) -> Result<Vec<(Vec<u8>, Bucket)>, SnapshotError> {
        let mut buckets = Vec::new();
        let root = self.meta.root;
        let mut visit = |flags: u32, name: &[u8], value: &[u8]| {
            if flags & BUCKET_FLAG == 0 {
                return Err(self.damaged(root, "a key stands beside the buckets"));
            }
            buckets.push((name.to_vec(), self.bucket(value, root)?));
            Ok(())
        };
        self.walk_tree(&Bucket::Page(root), &mut visit, pages)?;
        Ok(buckets)
    }

    /// Visits the keys of the bucket `name` in order; nothing, if there is no such bucket.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`], and what `visit` returns.
    pub fn for_each(&self, name: &[u8], visit: &mut Visit<'_>) -> Result<(), SnapshotError> {
        let buckets = self.buckets(None)?;
        match buckets.into_iter().find(|(found, _)| found == name) {
            Some((_, bucket)) => self.walk(&bucket, visit, None),
            None => Ok(()),
        }
    }

    /// Visits a bucket's keys, and its pages if asked.
    pub(crate) fn walk(
        &self,
        bucket: &Bucket,
        visit: &mut Visit<'_>,
        pages: Option<&mut VisitPage<'_>>,
    ) -> Result<(), SnapshotError> {
        let mut plain = |flags: u32, key: &[u8], value: &[u8]| {
            if flags & BUCKET_FLAG != 0 {
                let at = if let Bucket::Page(page) = bucket { *page } else { self.meta.root };
                return Err(self.damaged(at, "etcd has no buckets within buckets"));
            }
            visit(key, value)
        };
        self.walk_tree(bucket, &mut plain, pages)
    }

    fn walk_tree(
        &self,
        bucket: &Bucket,
        visit: &mut VisitElement<'_>,
        mut pages: Option<&mut VisitPage<'_>>,
    ) -> Result<(), SnapshotError> {
        // Reborrowed, so that both live as long as the walk.
        let mut visit = |flags: u32, key: &[u8], value: &[u8]| visit(flags, key, value);
        let mut count = |first: u64, span: u64| match pages.as_deref_mut() {
            Some(pages) => pages(first, span),
            None => Ok(()),
        };
        let mut walk = Walk { last: None, visit: &mut visit, pages: &mut count, left: self.meta.high_water };
        match bucket {
            Bucket::Page(root) => self.descend(*root, None, 0, &mut walk),
            Bucket::Inline(leaf, offset) => {
                let header = Header::read(leaf).ok_or_else(|| self.damaged_at(*offset, "an inline bucket is short"))?;
                if header.flags != LEAF {
                    return Err(self.damaged_at(*offset, "an inline bucket is not a leaf"));
                }
                self.visit_leaf(leaf, header.count, *offset, &mut walk)
            }
        }
    }

    fn descend(&self, id: u64, lower: Option<&[u8]>, depth: usize, walk: &mut Walk<'_>) -> Result<(), SnapshotError> {
        if depth > DEPTH_MAX {
            return Err(self.damaged(id, "the tree is deeper than any can be"));
        }
        let (header, page) = self.page(id)?;
        (walk.pages)(id, u64::from(header.overflow) + 1)?;
        walk.left =
            walk.left.checked_sub(1).ok_or_else(|| self.damaged(id, "the tree has more pages than the file"))?;
        match header.flags {
            LEAF => {
                let first = element(&page, 0, header.count).filter(|_| header.count > 0);
                if let (Some(lower), Some((_, key, _))) = (lower, first)
                    && key < lower
                {
                    return Err(self.damaged(id, "its first key is below what the branch above says"));
                }
                self.visit_leaf(&page, header.count, id * self.page_bytes(), walk)
            }
            BRANCH if header.count == 0 => Err(self.damaged(id, "a branch without children")),
            BRANCH => {
                for index in 0..usize::from(header.count) {
                    let (key, child) = self.branch_element(&page, index, header.count, id)?;
                    if walk.last.as_deref().is_some_and(|last| last >= key) {
                        return Err(self.damaged(id, "its keys are out of order"));
                    }
                    self.descend(child, Some(key), depth + 1, walk)?;
                }
                Ok(())
            }
            _ => Err(self.damaged(id, "neither a leaf nor a branch")),
        }
    }

    fn visit_leaf(&self, page: &[u8], count: u16, offset: u64, walk: &mut Walk<'_>) -> Result<(), SnapshotError> {
        for index in 0..usize::from(count) {
            let (flags, key, value) = element(page, index, count)
                .ok_or_else(|| self.damaged_at(offset, "an element reaches beyond its page"))?;
            if walk.last.as_deref().is_some_and(|last| last >= key) {
                return Err(self.damaged_at(offset, "its keys are out of order"));
            }
            match &mut walk.last {
                Some(last) => {
                    last.clear();
                    last.extend_from_slice(key);
                }
                None => walk.last = Some(key.to_vec()),
            }
            (walk.visit)(flags, key, value)?;
        }
        Ok(())
    }

    fn branch_element<'p>(
        &self,
        page: &'p [u8],
        index: usize,
        count: u16,
        id: u64,
    ) -> Result<(&'p [u8], u64), SnapshotError> {
        let at = HEADER_BYTES + index * ELEMENT_BYTES;
        let read = || {
            let start = at.checked_add(usize::try_from(u32_at(page, at)?).ok()?)?;
            let end = start.checked_add(usize::try_from(u32_at(page, at + 4)?).ok()?)?;
            let is_behind_elements = start >= HEADER_BYTES + usize::from(count) * ELEMENT_BYTES;
            Some((page.get(start..end).filter(|_| is_behind_elements)?, u64_at(page, at + 8)?))
        };
        read().ok_or_else(|| self.damaged(id, "an element reaches beyond its page"))
    }

    /// The pages that the freelist names, with the freelist's own.
    pub(crate) fn freelist(&self, pages: &mut VisitPage<'_>) -> Result<Option<Vec<u64>>, SnapshotError> {
        let id = self.meta.freelist;
        if id == NO_FREELIST {
            return Ok(None);
        }
        let (header, page) = self.page(id)?;
        if header.flags != FREELIST {
            return Err(self.damaged(id, "not a freelist"));
        }
        pages(id, u64::from(header.overflow) + 1)?;
        let short = || self.damaged(id, "the freelist reaches beyond its page");
        let (first, count) = match header.count {
            FREELIST_COUNT_OVERFLOW => (HEADER_BYTES + 8, u64_at(&page, HEADER_BYTES).ok_or_else(short)?),
            count => (HEADER_BYTES, u64::from(count)),
        };
        if count > page.len() as u64 / 8 {
            return Err(short());
        }
        (0..count as usize)
            .map(|index| u64_at(&page, first + index * 8).ok_or_else(short))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Reads a page with those it continues on, and checks its header.
    fn page(&self, id: u64) -> Result<(Header, Vec<u8>), SnapshotError> {
        if id < 2 || id >= self.meta.high_water {
            let reason = format!("names page {id} of {}", self.meta.high_water);
            return Err(self.damaged(self.meta.root, reason));
        }
        let page_bytes = self.page_bytes();
        let offset = id * page_bytes;
        let read = |bytes: &mut [u8]| {
            self.file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => self.damaged(id, "the file ends within the page"),
                _ => SnapshotError::Io { path: self.path.clone(), source: error },
            })
        };
        let mut page = vec![0; page_bytes as usize];
        read(&mut page)?;
        let header = Header::read(&page).ok_or_else(|| self.damaged(id, "the page has no header"))?;
        if header.id != id {
            return Err(self.damaged(id, format!("page {id} says it is page {}", header.id)));
        }
        if ![LEAF, BRANCH, META, FREELIST].contains(&header.flags) {
            return Err(self.damaged(id, format!("page {id} is of the unknown kind {:#x}", header.flags)));
        }
        let end = id + 1 + u64::from(header.overflow);
        if header.overflow > OVERFLOW_PAGES_MAX || end > self.meta.high_water {
            return Err(self.damaged(id, format!("page {id} continues beyond the last page")));
        }
        if header.overflow > 0 {
            page.resize((page_bytes * (1 + u64::from(header.overflow))) as usize, 0);
            read(&mut page)?;
        }
        Ok((header, page))
    }

    fn bucket(&self, value: &[u8], parent: u64) -> Result<Bucket, SnapshotError> {
        match u64_at(value, 0) {
            None => Err(self.damaged(parent, "a bucket's value is too short")),
            Some(0) => {
                let leaf = value.get(16..).filter(|leaf| leaf.len() >= HEADER_BYTES);
                let leaf = leaf.ok_or_else(|| self.damaged(parent, "an inline bucket is too short"))?;
                Ok(Bucket::Inline(leaf.to_vec(), parent * self.page_bytes()))
            }
            Some(page) => Ok(Bucket::Page(page)),
        }
    }

    pub(crate) fn damaged(&self, page: u64, reason: impl Into<String>) -> SnapshotError {
        self.damaged_at(page.saturating_mul(self.page_bytes()), reason)
    }

    pub(crate) fn damaged_at(&self, offset: u64, reason: impl Into<String>) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.clone(), offset: offset.min(self.size_bytes), reason: reason.into() }
    }
}

/// A leaf's element: flags, key, value.
fn element(page: &[u8], index: usize, count: u16) -> Option<(u32, &[u8], &[u8])> {
    let at = HEADER_BYTES + index * ELEMENT_BYTES;
    let number = |offset: usize| usize::try_from(u32_at(page, at + offset)?).ok();
    let start = at.checked_add(number(4)?)?;
    let middle = start.checked_add(number(8)?)?;
    let end = middle.checked_add(number(12)?)?;
    let is_behind_elements = start >= HEADER_BYTES + usize::from(count) * ELEMENT_BYTES;
    let key = page.get(start..middle).filter(|_| is_behind_elements)?;
    Some((u32_at(page, at)?, key, page.get(middle..end)?))
}
