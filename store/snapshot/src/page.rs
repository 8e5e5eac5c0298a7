//! Pages and their parts, as bytes.

/// Bytes of a page that this crate writes. What it reads may have others.
pub const PAGE_BYTES: usize = 4096;

/// Bytes of a page's header, and of one element's.
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes of a leaf's or a branch's element, without key and value.
pub(crate) const ELEMENT_BYTES: usize = 16;

pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREELIST: u16 = 0x10;

/// A leaf element's flag: its value is a bucket.
pub(crate) const BUCKET_FLAG: u32 = 0x01;
/// The freelist's page in a database that keeps none.
pub(crate) const NO_FREELIST: u64 = u64::MAX;
/// A count of this means that the freelist's true length is its first entry.
pub(crate) const FREELIST_COUNT_OVERFLOW: u16 = u16::MAX;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const META_BYTES: usize = 64;

/// A page's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    /// Pages that this one continues on.
    pub(crate) overflow: u32,
}

impl Header {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.overflow.to_le_bytes());
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Header> {
        Some(Header {
            id: u64_at(bytes, 0)?,
            flags: u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?),
            count: u16::from_le_bytes(*bytes.get(10..)?.first_chunk()?),
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// A meta page's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_bytes: u32,
    pub(crate) root: u64,
    pub(crate) freelist: u64,
    /// The first page that is not used.
    pub(crate) high_water: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    /// The meta page `id`, whole.
    pub(crate) fn page(&self, id: u64) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE_BYTES);
        Header { id, flags: META, count: 0, overflow: 0 }.write(&mut page);
        page.extend_from_slice(&MAGIC.to_le_bytes());
        page.extend_from_slice(&VERSION.to_le_bytes());
        page.extend_from_slice(&self.page_bytes.to_le_bytes());
        page.extend_from_slice(&0u32.to_le_bytes());
        for number in [self.root, 0, self.freelist, self.high_water, self.transaction] {
            page.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = fnv64a(&page[HEADER_BYTES..]);
        page.extend_from_slice(&checksum.to_le_bytes());
        page.resize(PAGE_BYTES, 0);
        page
    }

    /// Reads the meta page at the start of `page`, or says what is wrong with it.
    pub(crate) fn read(page: &[u8]) -> Result<Meta, &'static str> {
        let body = page.get(HEADER_BYTES..HEADER_BYTES + META_BYTES).ok_or("the file ends within a meta page")?;
        let word = |at| u32_at(body, at).unwrap_or(0);
        let long = |at| u64_at(body, at).unwrap_or(0);
        if word(0) != MAGIC {
            return Err("not a bbolt database");
        }
        if word(4) != VERSION {
            return Err("another version of bbolt's format");
        }
        if long(56) != fnv64a(&body[..56]) {
            return Err("a meta page's checksum does not match");
        }
        let meta = Meta {
            page_bytes: word(8),
            root: long(16),
            freelist: long(32),
            high_water: long(40),
            transaction: long(48),
        };
        if !(1024..=65536).contains(&meta.page_bytes) || !meta.page_bytes.is_power_of_two() {
            return Err("a meta page has an impossible page size");
        }
        Ok(meta)
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
