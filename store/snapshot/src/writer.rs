use crate::SnapshotError;
use crate::page::{BRANCH, BUCKET_FLAG, ELEMENT_BYTES, FREELIST, HEADER_BYTES, Header, LEAF, Meta, PAGE_BYTES};

/// The first page of the trees, behind two meta pages and an empty freelist.
const FIRST_TREE_PAGE: u64 = 3;
const FREELIST_PAGE: u64 = 2;
/// The higher transaction stands on page 0, since a meta page's number is its transaction's lowest bit.
const TRANSACTION: u64 = 2;

/// How a database is laid out: what its first pages must know of its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The root bucket's page.
    root: u64,
    /// Pages of the file.
    pages: u64,
}

impl Layout {
    /// Bytes of the database, without the checksum behind it.
    pub fn size_bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// Where finished pages go, in the order of the file.
type Sink<'s> = dyn FnMut(&[u8]) -> Result<(), SnapshotError> + 's;

/// Writes a bbolt database from buckets and keys that come in order.
///
/// Each tree is built from below: a full leaf is written at once, and its first key and page go to the branch above,
/// which is written when it is full in turn. One page a level is in memory.
pub struct Writer<'s> {
    sink: &'s mut Sink<'s>,
    /// `None` while measuring.
    layout: Option<Layout>,
    next_page: u64,
    /// Finished buckets: name and value.
    buckets: Vec<(Vec<u8>, Vec<u8>)>,
    open: Option<(Vec<u8>, Tree)>,
}

/// One element that waits for its page.
struct Element {
    flags: u32,
    key: Vec<u8>,
    /// A leaf's value, or empty.
    value: Vec<u8>,
    /// A branch's child.
    child: u64,
}

/// The unwritten page of one level.
#[derive(Default)]
struct Level {
    elements: Vec<Element>,
    bytes: usize,
}

/// A tree under construction; level 0 are the leaves.
struct Tree {
    levels: Vec<Level>,
    last_key: Option<Vec<u8>>,
}

impl<'s> Writer<'s> {
    /// Measures what would be written: no page leaves it.
    ///
    /// # Errors
    /// What `fill` returns.
    pub fn measure(fill: impl FnOnce(&mut Writer<'_>) -> Result<(), SnapshotError>) -> Result<Layout, SnapshotError> {
        let mut nowhere = |_: &[u8]| Ok(());
        let mut writer = Writer::new(None, &mut nowhere);
        fill(&mut writer)?;
        writer.finish()
    }

    /// Writes a database of a measured layout; `fill` must do what it did when it was measured.
    ///
    /// # Errors
    /// What `fill` and `sink` return; [`SnapshotError::Layout`] if the input has changed.
    pub fn write(
        layout: Layout,
        sink: &'s mut Sink<'s>,
        fill: impl FnOnce(&mut Writer<'_>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        for (id, transaction) in [(0, TRANSACTION), (1, TRANSACTION - 1)] {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: layout.root,
                freelist: FREELIST_PAGE,
                high_water: layout.pages,
                transaction,
            };
            sink(&meta.page(id))?;
        }
        let mut freelist = Vec::with_capacity(PAGE_BYTES);
        Header { id: FREELIST_PAGE, flags: FREELIST, count: 0, overflow: 0 }.write(&mut freelist);
        freelist.resize(PAGE_BYTES, 0);
        sink(&freelist)?;
        let mut writer = Writer::new(Some(layout), sink);
        fill(&mut writer)?;
        if writer.finish()? == layout { Ok(()) } else { Err(SnapshotError::Layout) }
    }

    fn new(layout: Option<Layout>, sink: &'s mut Sink<'s>) -> Writer<'s> {
        Writer { sink, layout, next_page: FIRST_TREE_PAGE, buckets: Vec::new(), open: None }
    }

    /// Begins a bucket; the one before is complete.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), SnapshotError> {
        self.close_bucket()?;
        self.open = Some((name.to_vec(), Tree::new()));
        Ok(())
    }

    /// Adds a key to the open bucket.
    ///
    /// # Errors
    /// [`SnapshotError::Order`] unless `key` is above the one before; what the sink returns.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        let Some((name, mut tree)) = self.open.take() else {
            return Err(SnapshotError::Order { bucket: String::new() });
        };
        if tree.last_key.as_deref().is_some_and(|last| last >= key) {
            return Err(SnapshotError::Order { bucket: String::from_utf8_lossy(&name).into_owned() });
        }
        let element = Element { flags: 0, key: key.to_vec(), value: value.to_vec(), child: 0 };
        self.add(&mut tree, 0, element)?;
        tree.last_key = Some(key.to_vec());
        self.open = Some((name, tree));
        Ok(())
    }

    fn close_bucket(&mut self) -> Result<(), SnapshotError> {
        let Some((name, tree)) = self.open.take() else { return Ok(()) };
        let value = match self.close_tree(tree)? {
            Some(root) => bucket_value(root),
            None => empty_bucket_value(),
        };
        self.buckets.push((name, value));
        Ok(())
    }

    fn finish(mut self) -> Result<Layout, SnapshotError> {
        self.close_bucket()?;
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.sort();
        let mut tree = Tree::new();
        for (name, value) in buckets {
            self.add(&mut tree, 0, Element { flags: BUCKET_FLAG, key: name, value, child: 0 })?;
        }
        let root = match self.close_tree(tree)? {
            Some(root) => root,
            // A database without buckets has an empty leaf for a root.
            None => self.write_page(LEAF, &[])?,
        };
        Ok(Layout { root, pages: self.next_page })
    }

    /// Adds an element to a level, and writes the level's page before if it would grow too large.
    fn add(&mut self, tree: &mut Tree, level: usize, element: Element) -> Result<(), SnapshotError> {
        if tree.levels.len() == level {
            tree.levels.push(Level::default());
        }
        let bytes = ELEMENT_BYTES + element.key.len() + element.value.len();
        let is_full = tree.levels[level].bytes + bytes + HEADER_BYTES > PAGE_BYTES;
        if is_full && !tree.levels[level].elements.is_empty() {
            self.flush(tree, level)?;
        }
        tree.levels[level].bytes += bytes;
        tree.levels[level].elements.push(element);
        Ok(())
    }

    /// Writes a level's page and tells the level above.
    fn flush(&mut self, tree: &mut Tree, level: usize) -> Result<(), SnapshotError> {
        let Level { elements, .. } = std::mem::take(&mut tree.levels[level]);
        let child = self.write_page(if level == 0 { LEAF } else { BRANCH }, &elements)?;
        let key = elements.into_iter().next().map(|first| first.key).unwrap_or_default();
        self.add(tree, level + 1, Element { flags: 0, key, value: Vec::new(), child })
    }

    /// Writes what waits on all levels and returns the root; `None` for a tree without keys.
    fn close_tree(&mut self, mut tree: Tree) -> Result<Option<u64>, SnapshotError> {
        let mut level = 0;
        while level < tree.levels.len() {
            let is_top = level + 1 == tree.levels.len();
            if is_top && level > 0 && tree.levels[level].elements.len() == 1 {
                return Ok(tree.levels[level].elements.first().map(|only| only.child));
            }
            self.flush(&mut tree, level)?;
            level += 1;
        }
        Ok(None)
    }

    fn write_page(&mut self, flags: u16, elements: &[Element]) -> Result<u64, SnapshotError> {
        let id = self.next_page;
        let payload: usize = elements.iter().map(|it| ELEMENT_BYTES + it.key.len() + it.value.len()).sum();
        let pages = (HEADER_BYTES + payload).div_ceil(PAGE_BYTES);
        self.next_page += pages as u64;
        if self.layout.is_none() {
            return Ok(id);
        }
        let count = u16::try_from(elements.len()).map_err(|_| SnapshotError::Layout)?;
        let overflow = u32::try_from(pages - 1).map_err(|_| SnapshotError::Layout)?;
        let mut page = Vec::with_capacity(pages * PAGE_BYTES);
        Header { id, flags, count, overflow }.write(&mut page);
        let mut data = HEADER_BYTES + elements.len() * ELEMENT_BYTES;
        for element in elements {
            // Positions count from the element itself.
            let position = (data - page.len()) as u32;
            let (key_bytes, value_bytes) = (element.key.len() as u32, element.value.len() as u32);
            if flags == LEAF {
                for number in [element.flags, position, key_bytes, value_bytes] {
                    page.extend_from_slice(&number.to_le_bytes());
                }
            } else {
                page.extend_from_slice(&position.to_le_bytes());
                page.extend_from_slice(&key_bytes.to_le_bytes());
                page.extend_from_slice(&element.child.to_le_bytes());
            }
            data += element.key.len() + element.value.len();
        }
        for element in elements {
            page.extend_from_slice(&element.key);
            page.extend_from_slice(&element.value);
        }
        page.resize(pages * PAGE_BYTES, 0);
        (self.sink)(&page)?;
        Ok(id)
    }
}

impl Tree {
    fn new() -> Tree {
        Tree { levels: Vec::new(), last_key: None }
    }
}

/// A bucket with a tree of its own: the root's page, and a sequence that etcd does not use.
fn bucket_value(root: u64) -> Vec<u8> {
    let mut value = root.to_le_bytes().to_vec();
    value.extend_from_slice(&0u64.to_le_bytes());
    value
}

/// A bucket without keys: no page, and an empty leaf inline.
fn empty_bucket_value() -> Vec<u8> {
    let mut value = bucket_value(0);
    Header { id: 0, flags: LEAF, count: 0, overflow: 0 }.write(&mut value);
    value
}
