use super::*;
use crate::bench::pin::plan::{HELD_FOR_GOOD, Machine, Pages, Strategy};

fn cell(load: Load) -> Cell {
    Cell { machine: Machine::Lab, load, pages: Pages::Small, strategy: Strategy::Evict, mib: 64, starts: 1 }
}

fn text(output: &str, report: &str, status: i32) -> String {
    let blocks = "Free pages count per migrate type at order       0      1      2 \n\
        Node    0, zone   Normal, type    Unmovable  9  0  0  0  0  0  0  0  0  3  2 \n\
        Node    0, zone   Normal, type      Movable  9  0  0  0  0  0  0  0  0  1  0 \n\
        Node    0, zone   Normal, type          CMA  0  0  0  0  0  0  0  0  0  0  >100000 \n\
        Node    0, zone  Movable, type      Movable  0  0  0  0  0  0  0  0  0  5  0 \n\
        Number of blocks type     Unmovable      Movable \n\
        Node 0, zone   Normal           96          222 \n";
    let vmstat = |n: u32| {
        format!(
            "pgmigrate_success {n}00\npgmigrate_fail 1\noom_kill {}\ndrop_pagecache {n}\n\
             compact_migrate_scanned 4{n}\nthp_file_alloc {n}\n",
            n - 1
        )
    };
    format!(
        "== blocks\n{blocks}== before\n{}== output\n{output}\n== after\n{}== report\n{report}\n== status\n{status}\n",
        vmstat(1),
        vmstat(3)
    )
}

const PINNED: &str = r#"{"outcome": "pinned", "pinned": {"retries": 4, "replaced": 2, "populating_ms": 1.5,
    "pinning_ms": 10.0, "found": {"cma": 5, "movable": 1}, "now": {"cma": 0, "movable": 3}, "pages": 7}}"#;

#[test]
fn a_start_that_succeeded() {
    let start = read(&cell(Load::DropCaches), &text("pinned", PINNED, 0));
    let expected = Start {
        failure: None,
        ms: 11.5,
        retries: 4,
        replaced: 2,
        found: 6,
        left: 3,
        moved: 200,
        unmoved: 0,
        huge_pages: 2,
        oom_kills: 2,
        load: 2,
    };
    assert_eq!(start, expected);
}

#[test]
fn a_start_that_failed_says_why() {
    let failed = r#"{"failed": {"message": "cannot pin", "causes": ["held", "ENOMEM"], "elapsed_ms": 20.5}}"#;
    let start = read(&cell(Load::Idle), &text("", failed, 4));
    assert_eq!((start.failure.as_deref(), start.ms), (Some("cannot pin: held: ENOMEM"), 20.5));
    // Contents that changed are found after the report was written.
    let start = read(&cell(Load::Idle), &text("pinned\nerror: the contents of 3 pages changed", PINNED, 4));
    assert_eq!(start.failure.as_deref(), Some("pinned\nerror: the contents of 3 pages changed"));
    let start = read(&cell(Load::Idle), &text("error: no device", "", 3));
    assert_eq!(start.failure.as_deref(), Some("error: no device"));
    assert!(read(&cell(Load::Idle), "").failure.is_some());
}

#[test]
fn a_load_is_measured() {
    let load = |load, output: &str| read(&cell(load), &text(output, PINNED, 0)).load;
    assert_eq!(load(Load::Idle, ""), 1);
    assert_eq!(load(Load::Compaction, ""), 2);
    // 32 huge pages are wanted, 8 are free.
    assert_eq!(load(Load::Fragmented, ""), 24);
    let held = "hold: 8 pages held for good: [4096]\nhold: 1 pages held\npinned\nhold: 1 rounds of 8 pages, 0.2 s\nhold: 12 rounds of 1 pages, 1 s";
    assert_eq!(load(HELD_FOR_GOOD, held), 1);
    assert_eq!(load(HELD_FOR_GOOD, "pinned"), 0);
    assert_eq!(load(HELD_FOR_GOOD, "hold: no guest memory"), 0);
    // Pages that are to be held for good beside another load count as well.
    assert_eq!(load(Load::DropCaches, "hold: 0 rounds of 8 pages, 0.2 s"), 0);
}
