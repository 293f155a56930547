//! How RAM is cut: regions into units, units into sub-units. Pure.

use super::mapper::Chunk;
use crate::bytes::MIB;
use crate::{GuestRange, PAGE_SIZE, RamRegion};

/// What culprits are narrowed down to, in bytes: a huge page of x86_64, which is also what the kernel gives a
/// migration type to (pageblock).
pub const SUB_UNIT: u64 = 2 * MIB;

/// A part of a unit, in bytes from the unit's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// Length.
    pub size: u64,
}

impl Span {
    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }
}

impl Chunk {
    /// The part of it that `span` names; `span` must lie inside.
    pub fn part(&self, span: Span) -> Self {
        Self {
            guest: GuestRange::new(self.guest.start + span.start, span.size),
            hva: self.hva + span.start,
            offset: self.offset + span.start,
        }
    }
}

/// Cuts `regions` at multiples of `unit` bytes (rounded up to whole pages) of their offset in the memfd.
pub fn plan(regions: &[RamRegion], unit: u64) -> Vec<Chunk> {
    regions.iter().flat_map(|r| cut(&Chunk { guest: r.guest, hva: r.hva, offset: r.offset }, unit)).collect()
}

/// Cuts one chunk likewise.
pub fn cut(chunk: &Chunk, unit: u64) -> Vec<Chunk> {
    let unit = unit.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX).max(PAGE_SIZE);
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < chunk.guest.size {
        let offset = chunk.offset + done;
        let size = (unit - offset % unit).min(chunk.guest.size - done);
        pieces.push(chunk.part(Span { start: done, size }));
        done += size;
    }
    pieces
}

/// Cuts a span at every `size` bytes from its start.
pub fn cut_span(span: Span, size: u64) -> Vec<Span> {
    let size = size.max(PAGE_SIZE);
    let starts = (0..span.size.div_ceil(size)).map(|i| span.start + i * size);
    starts.map(|start| Span { start, size: size.min(span.end() - start) }).collect()
}

/// The first of `size`, twice that and so on up to `most` of which `count` says that it makes no more than `room` pieces;
/// `None` for any number. If even `most` makes more: how many.
pub fn fit(room: Option<u64>, size: u64, most: u64, count: impl Fn(u64) -> u64) -> Result<u64, u64> {
    let mut size = size.min(most);
    loop {
        let pieces = count(size);
        match room {
            Some(room) if pieces > room && size < most => size = size.saturating_mul(2).min(most),
            Some(room) if pieces > room => return Err(pieces),
            _ => return Ok(size),
        }
    }
}

/// The spans in order, those that touch made one.
pub fn coalesce(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut runs: Vec<Span> = Vec::new();
    for span in spans {
        match runs.last_mut() {
            Some(last) if last.end() >= span.start => last.size = span.end().max(last.end()) - last.start,
            _ => runs.push(span),
        }
    }
    runs
}

/// What of `span` lies outside `holes`.
pub fn without(span: Span, holes: &[Span]) -> Vec<Span> {
    let mut start = span.start;
    let mut left = Vec::new();
    for hole in coalesce(holes.to_vec()) {
        if hole.start > start {
            left.push(Span { start, size: hole.start.min(span.end()) - start });
        }
        start = start.max(hole.end()).min(span.end());
    }
    if start < span.end() {
        left.push(Span { start, size: span.end() - start });
    }
    left
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
