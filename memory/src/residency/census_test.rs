#![expect(clippy::single_range_in_vec_init, reason = "lists of frame ranges, some with one range")]

use proptest::prelude::*;

use super::*;
use crate::bytes::MIB;

fn area(name: &str, ranges: &[PfnRange]) -> super::super::CmaArea {
    super::super::CmaArea { name: name.to_owned(), ranges: ranges.to_vec() }
}

fn zones(movable: PfnRange) -> Zones {
    let zone = super::super::Zone {
        name: "Movable".to_owned(),
        start_pfn: movable.start,
        spanned: movable.end - movable.start,
        free: 1000,
        ..Default::default()
    };
    Zones(vec![zone])
}

fn meminfo(cma_free_pages: u64) -> Meminfo {
    Meminfo { cma_total: 900 * MIB, cma_free: cma_free_pages * PAGE_SIZE, ..Meminfo::default() }
}

fn surveyor() -> Surveyor {
    let areas = CmaAreas::Known(vec![area("a", &[100..200, 300..400]), area("b", &[200..250])]);
    Surveyor::with(areas, &meminfo(5000), &zones(350..500))
}

fn tally(surveyor: &Surveyor, pfns: impl IntoIterator<Item = u64>) -> Tally {
    let mut tally = Tally::default();
    pfns.into_iter().for_each(|pfn| tally.count(surveyor.classify(pfn).1));
    tally
}

#[test]
fn frames_are_told_apart() {
    let surveyor = surveyor();
    let tally = tally(&surveyor, 0..1000);
    let census = surveyor.conclude(&tally);
    assert_eq!(census.basis, Basis::Pfn);
    assert_eq!(census.cma, [("a".to_owned(), 200), ("b".to_owned(), 50)]);
    assert_eq!((census.in_cma(), census.movable, census.normal), (250, 100, 650));
    assert_eq!((census.total_pages, census.absent), (1000, 0));
}

#[test]
fn areas_without_pages_are_left_out() {
    let surveyor = surveyor();
    let census = surveyor.conclude(&tally(&surveyor, [0, 210, 600]));
    assert_eq!(census.cma, [("b".to_owned(), 1)]);
}

#[test]
fn parts_add_up() {
    let surveyor = surveyor();
    let mut sum = Tally::default();
    for part in [tally(&surveyor, 0..220), tally(&surveyor, 220..1000)] {
        sum.add(&part);
    }
    assert_eq!(surveyor.conclude(&sum), surveyor.conclude(&tally(&surveyor, 0..1000)));
}

#[test]
fn hidden_frames_are_estimated() {
    let surveyor = surveyor();
    let mut tally = Tally { absent: 10, ..Tally::default() };
    tally.add_hidden(200);
    let census = surveyor.conclude_with(&tally, Free { cma: 4950, movable: 995 });
    let Basis::CmaFreeEstimate { reason } = &census.basis else { panic!("{census:?}") };
    assert!(reason.contains("CAP_SYS_ADMIN"));
    assert_eq!((census.in_cma(), census.movable, census.normal, census.absent), (50, 5, 145, 10));
    // Never more than there are pages, whatever the host did meanwhile.
    // Those that were moved are free, though that is not counted yet.
    let moved = Free { cma: 4950, movable: 995 }.with_moved(60);
    let census = surveyor.conclude_with(&tally, moved);
    assert_eq!((census.in_cma(), census.movable), (0, 0));
    let census = surveyor.conclude_with(&tally, Free { cma: 0, movable: 0 });
    assert_eq!((census.in_cma(), census.movable, census.normal), (200, 0, 0));
    let census = surveyor.conclude_with(&tally, Free { cma: 9999, movable: 9999 });
    assert_eq!((census.in_cma(), census.movable, census.normal), (0, 0, 200));
}

#[test]
fn unknown_areas_are_estimated_and_movable_is_exact() {
    let areas = CmaAreas::Unknown { reason: "the log wrapped".to_owned() };
    let surveyor = Surveyor::with(areas, &meminfo(5000), &zones(350..500));
    let tally = tally(&surveyor, 300..400);
    let census = surveyor.conclude_with(&tally, Free { cma: 5000, movable: 0 });
    assert_eq!(census.basis, Basis::CmaFreeEstimate { reason: "the log wrapped".to_owned() });
    assert_eq!((census.in_cma(), census.movable, census.normal), (0, 50, 50));
    assert!(!census.is_exact());
}

#[test]
fn a_host_without_either_needs_no_frames() {
    let surveyor = Surveyor::with(CmaAreas::Known(vec![]), &Meminfo::default(), &zones(0..0));
    let mut tally = Tally::default();
    tally.add_hidden(7);
    let census = surveyor.conclude(&tally);
    assert_eq!((census.basis, census.normal), (Basis::NothingMovable, 7));
}

#[test]
fn pages_of_this_process_are_counted() {
    let buffer = vec![1u8; 8 * MIB as usize];
    let hva = (buffer.as_ptr() as u64).next_multiple_of(PAGE_SIZE);
    let guest = crate::GuestRange::new(0, 4 * MIB);
    let census = Surveyor::new().census(&[Chunk { guest, hva, offset: 0 }]).unwrap();
    assert_eq!((census.total_pages, census.absent), (1024, 0));
    assert_eq!(census.normal + census.in_cma() + census.movable, 1024);
}

proptest! {
    #[test]
    fn classification_agrees_with_the_ranges(
        cma in proptest::collection::vec((0..2000u64, 0..300u64), 0..5),
        movable in (0..2000u64, 0..500u64),
        pfns in proptest::collection::vec(0..3000u64, 0..50),
    ) {
        let ranges: Vec<PfnRange> = cma.iter().map(|&(start, size)| start..start + size).collect();
        let movable = movable.0..movable.0 + movable.1;
        let areas = CmaAreas::Known(vec![area("a", &ranges)]);
        let surveyor = Surveyor::with(areas, &meminfo(0), &zones(movable.clone()));
        for pfn in pfns {
            let expected = if ranges.iter().any(|range| range.contains(&pfn)) {
                Kind::Cma(0)
            } else if movable.contains(&pfn) {
                Kind::Movable
            } else {
                Kind::Normal
            };
            let (range, kind) = surveyor.classify(pfn);
            prop_assert_eq!(kind, expected);
            prop_assert!(range.contains(&pfn));
        }
    }
}
