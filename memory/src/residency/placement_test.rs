#![expect(clippy::single_range_in_vec_init, reason = "lists of frame ranges, some with one range")]

use super::*;
use crate::bytes::MIB;
use crate::residency::{CmaArea, CmaAreas, Meminfo, Zone};
use crate::{AddressLimits, Layout, PAGE_SIZE};

fn zone(node: u32, name: &str, span: PfnRange) -> Zone {
    Zone {
        node,
        name: name.to_owned(),
        start_pfn: span.start,
        spanned: span.end - span.start,
        ..Zone::default()
    }
}

/// Two nodes, an area on the first, ZONE_MOVABLE on the second.
fn zones() -> Zones {
    Zones(vec![zone(0, "Normal", 0..8192), zone(1, "Normal", 8192..12288), zone(1, "Movable", 12288..16384)])
}

fn surveyor(areas: CmaAreas) -> Surveyor {
    let meminfo = Meminfo { cma_total: 2 * MIB, ..Meminfo::default() };
    Surveyor::with(areas, &meminfo, &zones())
}

fn areas() -> CmaAreas {
    CmaAreas::Known(vec![CmaArea { name: "reserved".to_owned(), ranges: vec![1024..1536] }])
}

fn count(surveyor: &Surveyor, pages: impl IntoIterator<Item = Page>) -> Placement {
    let nodes = Nodes::of(&zones());
    let mut counting = Counting::new(surveyor, &nodes, GuestRange::new(0, 0));
    pages.into_iter().for_each(|page| counting.see(&page));
    counting.placement
}

#[test]
fn pages_are_told_apart_by_frame() {
    let frames = |range: PfnRange| range.map(Page::Frame);
    let pages = frames(1024..1536)
        .chain(frames(13000..13100))
        .chain(std::iter::repeat_n(Page::Absent, 24))
        .chain(frames(0..88))
        .chain(frames(8192..8492));
    let placement = count(&surveyor(areas()), pages);
    assert_eq!((placement.cma, placement.movable, placement.normal), (512, 100, 388));
    assert_eq!((placement.absent, placement.hidden), (24, 0));
    assert_eq!(placement.nodes, [(0, 600), (1, 400)]);
    assert_eq!(placement.huge, 512);
}

#[test]
fn huge_is_what_is_aligned_on_both_sides_and_whole() {
    let frames = |range: PfnRange| range.map(Page::Frame);
    let surveyor = surveyor(areas());
    let huge = |pages: Vec<Page>| count(&surveyor, pages).huge;
    assert_eq!(huge(frames(2048..3072).collect()), 1024);
    assert_eq!(huge(frames(2049..3073).collect()), 0, "not aligned in the host");
    assert_eq!(
        huge(std::iter::once(Page::Absent).chain(frames(2048..2560)).collect()),
        0,
        "nor in the guest"
    );
    assert_eq!(huge(frames(2048..2559).chain(frames(4000..4001)).collect()), 0, "not whole");
    assert_eq!(huge(frames(2048..2304).chain(frames(2303..2559)).collect()), 0, "not one after another");
}

#[test]
fn what_cannot_be_seen_is_said_to_be_so() {
    let hidden = || std::iter::repeat_n(Page::Hidden, 10);
    assert_eq!(count(&surveyor(areas()), hidden()).hidden, 10);
    let unknown = surveyor(CmaAreas::Unknown { reason: "debugfs: no".to_owned() });
    assert_eq!(count(&unknown, (0..5).map(Page::Frame)).hidden, 5);
    assert_eq!(unknown.blindness(false).as_deref(), Some("debugfs: no"));
    assert!(surveyor(areas()).blindness(true).is_some_and(|reason| reason.contains("CAP_SYS_ADMIN")));
    assert_eq!(surveyor(areas()).blindness(false), None);
    // Where there is neither, everything is elsewhere.
    let plain = Surveyor::with(CmaAreas::Known(Vec::new()), &Meminfo::default(), &Zones::default());
    assert_eq!(count(&plain, hidden()).normal, 10);
    assert_eq!(plain.blindness(true), None);
}

#[test]
fn interleaved_nodes_are_not_guessed() {
    let interleaved = Zones(vec![zone(0, "Normal", 0..100), zone(1, "Normal", 50..150)]);
    assert_eq!(Nodes::of(&interleaved).node(60), None);
    assert_eq!(Nodes::of(&zones()).node(9000), Some(1));
    assert_eq!(Nodes::of(&zones()).node(99999), None);
}

#[test]
fn pages_of_this_process_are_found_and_none_is_made() {
    let layout = Layout::new(32 * MIB, &AddressLimits::cpu_only(40)).unwrap();
    let ram = GuestRam::new(&layout).unwrap();
    let none = Placements::of(&ram).unwrap();
    assert_eq!(none.pieces.iter().map(|piece| piece.absent).sum::<u64>(), 32 * MIB / PAGE_SIZE);
    assert_eq!(ram.allocated(), 0);
    // One page, by a hand that is not ours.
    let file = std::fs::File::from(ram.memfd().try_clone_to_owned().unwrap());
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 5 * MIB).unwrap();
    let some = Placements::of(&ram).unwrap();
    let there = |piece: &Placement| piece.normal + piece.cma + piece.movable + piece.hidden;
    let pages: u64 = some.pieces.iter().map(there).sum();
    assert_eq!(pages, ram.allocated() / PAGE_SIZE);
    assert!(pages > 0);
}
