//! Which parts of a BAR the guest may reach without an exit.

use std::ops::Range;
use std::slice;

/// The unit in which host memory is mapped, in bytes.
pub(crate) const PAGE: u64 = 4096;

/// The page-aligned parts of a region of `size` bytes that can be mapped: `sparse` (else all of it) without the pages
/// that `holes` touch. Ascending, disjoint, none empty.
pub(crate) fn mappable(size: u64, sparse: Option<&[Range<u64>]>, holes: &[Range<u64>]) -> Vec<Range<u64>> {
    let whole = 0..size;
    let mut areas: Vec<Range<u64>> = Vec::new();
    let mut parts: Vec<Range<u64>> =
        sparse.unwrap_or(slice::from_ref(&whole)).iter().map(|part| inner(part, size)).collect();
    parts.sort_by_key(|part| part.start);
    for part in parts {
        match areas.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => areas.push(part),
        }
    }
    for hole in holes.iter().filter(|hole| !hole.is_empty()).map(outer) {
        areas = areas
            .into_iter()
            .flat_map(|area| [area.start..area.end.min(hole.start), area.start.max(hole.end)..area.end])
            .filter(|area| !area.is_empty())
            .collect();
    }
    areas.retain(|area| !area.is_empty());
    areas
}

/// The whole pages in `part` of a region.
fn inner(part: &Range<u64>, size: u64) -> Range<u64> {
    let end = part.end.min(size) / PAGE * PAGE;
    part.start.checked_next_multiple_of(PAGE).unwrap_or(end).min(end)..end
}

/// The pages that `hole` touches.
fn outer(hole: &Range<u64>) -> Range<u64> {
    hole.start / PAGE * PAGE..hole.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "area_test.rs"]
mod tests;
