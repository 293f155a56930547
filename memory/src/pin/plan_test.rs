use proptest::prelude::*;

use super::*;
use crate::bytes::GIB;

fn region(start: u64, size: u64, offset: u64) -> RamRegion {
    RamRegion { guest: GuestRange::new(start, size), hva: (1 << 40) + offset, offset }
}

#[test]
fn regions_are_cut_at_unit_boundaries() {
    let regions = [region(0, 3 * GIB, 0), region(4 * GIB, GIB + 5 * MIB, 3 * GIB)];
    let chunks = plan(&regions, GIB);
    let sizes: Vec<u64> = chunks.iter().map(|chunk| chunk.guest.size / MIB).collect();
    assert_eq!(sizes, [1024, 1024, 1024, 1024, 5]);
    assert_eq!(chunks[4].guest.start, 5 * GIB);
    assert_eq!((chunks[4].offset, chunks[4].hva), (4 * GIB, (1 << 40) + 4 * GIB));
}

#[test]
fn sizes_at_the_edges_are_planned() {
    let sizes =
        |size, unit| plan(&[region(0, size, 0)], unit).iter().map(|c| c.guest.size).collect::<Vec<_>>();
    assert_eq!(sizes(PAGE_SIZE, GIB), [PAGE_SIZE]);
    assert_eq!(sizes(GIB - PAGE_SIZE, GIB), [GIB - PAGE_SIZE]);
    assert_eq!(sizes(GIB + PAGE_SIZE, GIB), [GIB, PAGE_SIZE]);
    assert_eq!(sizes(12 << 40, GIB).len(), 12 * 1024);
}

#[test]
fn spans_are_cut_joined_and_taken_away() {
    let span = |start, size| Span { start, size };
    assert_eq!(cut_span(span(2, 5 * PAGE_SIZE), 2 * PAGE_SIZE).len(), 3);
    assert_eq!(coalesce(vec![span(4, 2), span(0, 2), span(2, 2), span(8, 1)]), [span(0, 6), span(8, 1)]);
    assert_eq!(without(span(0, 10), &[span(4, 2), span(0, 1)]), [span(1, 3), span(6, 4)]);
    assert_eq!(without(span(4, 4), &[span(0, 100)]), []);
    assert_eq!(without(span(4, 4), &[span(100, 100), span(0, 4)]), [span(4, 4)]);
}

proptest! {
    #[test]
    fn a_plan_covers_every_byte_once(
        sizes in proptest::collection::vec(1..4096u64, 1..4),
        unit in 1..2048u64,
    ) {
        let mut regions = Vec::new();
        let mut next = 0u64;
        for pages in sizes {
            let offset = next.next_multiple_of(GIB);
            regions.push(region(offset, pages * 4096, offset));
            next = offset + pages * 4096;
        }
        let chunks = plan(&regions, unit * 4096);
        for chunk in &chunks {
            prop_assert!(chunk.guest.size > 0 && chunk.guest.size <= unit * 4096);
            prop_assert_eq!(chunk.hva, (1 << 40) + chunk.offset);
            prop_assert_eq!(chunk.offset / (unit * 4096), (chunk.offset + chunk.guest.size - 1) / (unit * 4096));
        }
        let runs = |ranges: Vec<GuestRange>| {
            coalesce(ranges.iter().map(|range| Span { start: range.start, size: range.size }).collect())
        };
        let covered = runs(chunks.iter().map(|chunk| chunk.guest).collect());
        prop_assert_eq!(covered, runs(regions.iter().map(|region| region.guest).collect()));
        prop_assert_eq!(
            chunks.iter().map(|chunk| chunk.guest.size).sum::<u64>(),
            regions.iter().map(|region| region.guest.size).sum::<u64>()
        );
    }

    #[test]
    fn what_is_taken_away_is_gone_and_the_rest_is_there(
        holes in proptest::collection::vec((0..40u64, 0..10u64), 0..8),
    ) {
        let holes: Vec<Span> = holes.iter().map(|&(start, size)| Span { start, size }).collect();
        let left = without(Span { start: 5, size: 25 }, &holes);
        for byte in 0..60 {
            let inside = |span: &Span| (span.start..span.end()).contains(&byte);
            let expected = (5..30).contains(&byte) && !holes.iter().any(inside);
            prop_assert_eq!(left.iter().filter(|span| inside(span)).count(), usize::from(expected));
        }
    }
}

#[test]
fn pieces_grow_until_there_is_room_for_all() {
    let count = |size: u64| (1024 * MIB).div_ceil(size);
    for (room, size) in
        [(None, Ok(64)), (Some(16), Ok(64)), (Some(15), Ok(128)), (Some(3), Ok(500)), (Some(2), Err(3))]
    {
        let fitted = fit(room, 64 * MIB, 500 * MIB, count);
        assert_eq!(fitted.map(|size| size / MIB), size, "{room:?}");
    }
    assert_eq!(fit(Some(0), 64 * MIB, 32 * MIB, count), Err(32));
}
