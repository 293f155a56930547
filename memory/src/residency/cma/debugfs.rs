//! CMA areas in debugfs (mm/cma_debug.c, CONFIG_CMA_DEBUGFS): a directory for each, in one of two layouts.
//!
//! Before 6.15 an area is one range: `base_pfn` and `count`, in pages. Since then there is `ranges/N` for each range, with
//! its `base_pfn` and its `bitmap` but not its size; `count` is that of all ranges.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::CmaArea;
use crate::residency::PfnRange;
use crate::text;

/// Areas of a host at the most; a kernel has CONFIG_CMA_AREAS of them, 20 by default.
const MAX_AREAS: usize = 1024;
/// Ranges of an area at the most (CMA_MAX_RANGES is 8).
const MAX_RANGES: usize = 1024;
/// Text of a bitmap at the most: that of 8 TiB in single pages is less.
const MAX_BITMAP: u64 = 1 << 30;

/// The areas below `root`.
///
/// # Errors
/// Why they cannot be told, for people.
pub(super) fn areas(root: &Path) -> Result<Vec<CmaArea>, String> {
    let entries = fs::read_dir(root).map_err(|e| e.to_string())?;
    entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .take(MAX_AREAS)
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            match ranges(&entry.path()) {
                Some(ranges) => Ok(CmaArea { name, ranges }),
                None => Err(format!("area {name} is not understood")),
            }
        })
        .collect()
}

fn ranges(area: &Path) -> Option<Vec<PfnRange>> {
    let count = number(&area.join("count"))?;
    let range = |base: u64, pages: u64| Some(base..base.checked_add(pages)?);
    let Ok(entries) = fs::read_dir(area.join("ranges")) else {
        return Some(vec![range(number(&area.join("base_pfn"))?, count)?]);
    };
    let directories: Vec<_> = entries.flatten().map(|entry| entry.path()).take(MAX_RANGES).collect();
    if let [only] = directories.as_slice() {
        return Some(vec![range(number(&only.join("base_pfn"))?, count)?]);
    }
    let order = u32::try_from(number(&area.join("order_per_bit"))?).ok().filter(|order| *order < 32)?;
    let mut ranges = directories
        .iter()
        .map(|directory| {
            let words = words(File::open(directory.join("bitmap")).ok()?.take(MAX_BITMAP)).ok()?;
            // The bitmap is an array of 32-bit words, with a bit for 2^order pages.
            let pages = words.checked_mul(32)?.checked_mul(1 << order)?;
            range(number(&directory.join("base_pfn"))?, pages)
        })
        .collect::<Option<Vec<_>>>()?;
    ranges.sort_unstable_by_key(|r| r.start);
    Some(ranges)
}

fn number(path: &Path) -> Option<u64> {
    text::read(path).ok()?.trim().parse().ok()
}

/// Words in a text, counted as it is read.
pub(super) fn words(mut text: impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let (mut words, mut inside) = (0, false);
    loop {
        let length = text.read(&mut buffer)?;
        if length == 0 {
            return Ok(words);
        }
        for byte in buffer.get(..length).unwrap_or_default() {
            let starts = !byte.is_ascii_whitespace() && !inside;
            words += u64::from(starts);
            inside = !byte.is_ascii_whitespace();
        }
    }
}

#[cfg(test)]
#[path = "debugfs_test.rs"]
pub(super) mod tests;
