use std::collections::BTreeSet;

use super::*;

fn cell(load: Load, strategy: Strategy) -> Cell {
    Cell { machine: Machine::Lab, load, pages: Pages::Small, strategy, mib: 64, starts: 1 }
}

#[test]
fn every_strategy_meets_every_load_with_both_sizes_of_pages() {
    let cells = Machine::Lab.cells(8);
    let names: BTreeSet<String> = cells.iter().map(Cell::name).collect();
    assert_eq!((cells.len(), names.len()), (64, 64));
    assert!(names.contains("lab/5 s holder/THP/copy-replace"), "{names:?}");
    // A load is set up once.
    let changes = cells.windows(2).filter(|pair| pair[0].load != pair[1].load).count();
    assert_eq!(changes, 7);
}

#[test]
fn other_kernels_are_for_comparison() {
    for machine in [Machine::Debian7, Machine::Debian61] {
        let cells = machine.cells(8);
        assert_eq!(cells.len(), 32);
        assert!(cells.iter().all(|cell| cell.starts >= 2 && cell.starts <= 16));
        assert!(machine.cells(1).iter().all(|cell| cell.starts >= 1));
    }
}

#[test]
fn by_default_there_are_a_thousand_starts_that_prevent() {
    let cells = Machine::Lab.cells(8);
    let prevent = cells.iter().filter(|cell| cell.strategy == Strategy::Prevent);
    assert!(prevent.map(|cell| cell.starts).sum::<u32>() >= 1000);
}

#[test]
fn holders_stand_beside_what_is_started() {
    let idle = cell(Load::Idle, Strategy::Prevent).command();
    assert_eq!(idle[..3], ["vmm", "check", "--pin"]);
    let held = cell(Load::Holders { ms: 2, pages: 1 }, Strategy::Others).command();
    assert_eq!(held[..5], ["/lab/hold", "2", "1", "--", "/lab/populate_and_map"]);
}

#[test]
fn copies_are_forced_by_pages_that_nobody_lets_go_of() {
    assert_eq!(cell(Load::Idle, Strategy::Replace).holders(), [(0, 8)]);
    assert_eq!(cell(Load::Holders { ms: 2, pages: 1 }, Strategy::Replace).holders(), [(2, 1), (0, 8)]);
    assert_eq!(cell(HELD_FOR_GOOD, Strategy::Replace).holders(), [(0, 8)]);
}
