//! `/proc/pagetypeinfo` (mm/vmstat.c): free blocks by size and by what they are for. For root alone.

use std::io;
use std::path::Path;

use crate::text;

/// Of a block as large as a huge page of x86_64: 2^9 pages.
const HUGE_ORDER: usize = 9;
/// Kinds of blocks that nobody gets, or that cannot be pinned.
const RESERVED: [&str; 3] = ["CMA", "Isolate", "HighAtomic"];

/// Free blocks that are at least as large as a huge page and can be pinned.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn free_huge_pages(path: &Path) -> io::Result<u64> {
    text::read(path).map(|text| parse(&text))
}

/// The same of the file's text.
pub fn parse(text: &str) -> u64 {
    text.lines().filter_map(free_blocks).fold(0, u64::saturating_add)
}

/// `Node    0, zone   Normal, type      Movable      1      0 ..`, a count for each order, with a `>` before what was not
/// counted further.
fn free_blocks(line: &str) -> Option<u64> {
    let mut parts = line.strip_prefix("Node ")?.splitn(3, ',').skip(1);
    let zone = parts.next()?.trim().strip_prefix("zone")?.trim();
    let mut words = parts.next()?.trim().strip_prefix("type")?.split_whitespace();
    let kind = words.next()?;
    if zone == "Movable" || RESERVED.contains(&kind) {
        return None;
    }
    let counts = words.skip(HUGE_ORDER).map(|count| count.trim_start_matches('>').parse::<u64>().ok());
    counts.flatten().reduce(u64::saturating_add)
}

#[cfg(test)]
#[path = "pagetypes_test.rs"]
mod tests;
