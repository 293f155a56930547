//! Set arithmetic on ranges of guest physical addresses.

use memory::GuestRange;

/// The union, sorted, with neighbours merged and nothing empty.
pub(super) fn union(ranges: impl IntoIterator<Item = GuestRange>) -> Vec<GuestRange> {
    let mut sorted: Vec<GuestRange> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
    sorted.sort_unstable();
    let mut merged: Vec<GuestRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end() => {
                last.size = last.end().max(range.end()) - last.start;
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// What of `ranges` lies outside every one of `holes`; sorted, neighbours in `ranges` stay apart.
pub(super) fn subtract(ranges: &[GuestRange], holes: &[GuestRange]) -> Vec<GuestRange> {
    let holes = union(holes.iter().copied());
    let mut left = Vec::new();
    for range in ranges {
        let mut start = range.start;
        for hole in holes.iter().filter(|hole| hole.overlaps(range)) {
            if hole.start > start {
                left.push(GuestRange::new(start, hole.start - start));
            }
            start = hole.end();
        }
        if start < range.end() {
            left.push(GuestRange::new(start, range.end() - start));
        }
    }
    left.sort_unstable();
    left
}
