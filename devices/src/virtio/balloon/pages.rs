//! Which pages a chain of the inflate queue names: an array of page numbers, 32 bits each, of 4096 bytes whatever the guest's
//! pages are (virtio 1.3 §5.5.6).

use std::io::Read;

use memory::{GuestRange, PAGE_SIZE};

use crate::virtio::{Chain, RingError};

/// Pages that one chain may name: 16 MiB. Linux names 256, FreeBSD 1024.
pub(super) const MOST_PAGES: usize = 4096;
const NUMBER: usize = size_of::<u32>();

/// The ranges that the page numbers in `chain` make up, ascending, each as long as can be.
///
/// # Errors
/// There are too many, or not whole ones.
pub(super) fn named(chain: &Chain) -> Result<Vec<GuestRange>, RingError> {
    let bytes = usize::try_from(chain.readable_bytes()).unwrap_or(usize::MAX);
    if bytes > MOST_PAGES * NUMBER || !bytes.is_multiple_of(NUMBER) {
        return Err(RingError::Request("list of pages"));
    }
    let mut list = vec![0; bytes];
    chain.reader().read_exact(&mut list).map_err(RingError::Access)?;
    let (numbers, _) = list.as_chunks::<NUMBER>();
    Ok(ranges(numbers.iter().copied().map(u32::from_le_bytes).collect()))
}

/// The ranges that pages of these numbers make up.
fn ranges(mut numbers: Vec<u32>) -> Vec<GuestRange> {
    numbers.sort_unstable();
    numbers.dedup();
    let next_to = |before: &u32, after: &u32| before.checked_add(1) == Some(*after);
    let range = |run: &[u32]| {
        let first = run.first().copied().unwrap_or_default();
        GuestRange::new(u64::from(first) * PAGE_SIZE, run.len() as u64 * PAGE_SIZE)
    };
    numbers.chunk_by(next_to).map(range).collect()
}

#[cfg(test)]
#[path = "pages_test.rs"]
mod tests;
