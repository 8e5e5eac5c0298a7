use crate::SnapshotError;
use crate::reader::{Bucket, Database};

/// Reads a database through: every page of every tree is sound, belongs to one tree only, and no page is lost.
/// (What bbolt's `Tx.Check` does.)
///
/// # Errors
/// [`SnapshotError::Damaged`] names the first bad page.
pub fn check(database: &Database) -> Result<(), SnapshotError> {
    let pages = usize::try_from(database.meta.high_water)
        .map_err(|_| database.damaged_at(0, "more pages than this machine can count"))?;
    let mut seen = Seen { words: vec![0; pages.div_ceil(64)] };
    seen.claim(database, 0, 2)?;
    let free = database.freelist(&mut |first, span| seen.claim(database, first, span))?;
    for page in free.iter().flatten() {
        if *page >= database.meta.high_water {
            return Err(database.damaged(database.meta.freelist, format!("page {page} of the freelist is not there")));
        }
        seen.claim(database, *page, 1)?;
    }
    let buckets = database.buckets(Some(&mut |first, span| seen.claim(database, first, span)))?;
    for (_, bucket) in &buckets {
        let mut claim = |first, span| seen.claim(database, first, span);
        let pages: Option<&mut dyn FnMut(u64, u64) -> Result<(), SnapshotError>> = match bucket {
            Bucket::Page(_) => Some(&mut claim),
            Bucket::Inline(..) => None,
        };
        database.walk(bucket, &mut |_, _| Ok(()), pages)?;
    }
    // Without a freelist bbolt itself finds out at the next open what is free.
    if free.is_some()
        && let Some(lost) = (0..database.meta.high_water).find(|page| !seen.contains(*page))
    {
        return Err(database.damaged(lost, format!("page {lost} is neither used nor free")));
    }
    Ok(())
}

/// One bit a page.
struct Seen {
    words: Vec<u64>,
}

impl Seen {
    fn contains(&self, page: u64) -> bool {
        self.words.get((page / 64) as usize).is_some_and(|word| word & 1 << (page % 64) != 0)
    }

    fn claim(&mut self, database: &Database, first: u64, span: u64) -> Result<(), SnapshotError> {
        for page in first..first + span {
            if self.contains(page) {
                return Err(database.damaged(page, format!("page {page} is used twice")));
            }
            if let Some(word) = self.words.get_mut((page / 64) as usize) {
                *word |= 1 << (page % 64);
            }
        }
        Ok(())
    }
}
