use super::*;
use crate::bench::pin::plan::{Load, Machine, Pages, Strategy};

fn start(failure: Option<&str>, ms: f64) -> Start {
    Start {
        failure: failure.map(str::to_owned),
        ms,
        retries: 1,
        replaced: 0,
        found: 10,
        left: 0,
        moved: 10,
        unmoved: 0,
        huge_pages: 0,
        oom_kills: 0,
        load: ms as u64,
    }
}

#[test]
fn starts_are_added_up_and_times_are_of_those_that_succeeded() {
    let cell = Cell {
        machine: Machine::Lab,
        load: Load::Idle,
        pages: Pages::Huge,
        strategy: Strategy::Evict,
        mib: 64,
        starts: 4,
    };
    let starts = [start(None, 30.0), start(Some("no"), 99.0), start(None, 10.0), start(Some("no"), 98.0)];
    let row = Row::new(&cell, "7.3", &starts, 1);
    assert_eq!((row.starts, row.failures, row.retries, row.pages_found_in_cma), (4, 2, 4, 40));
    assert_eq!((row.p50_ms, row.p99_ms, row.max_ms), (Some(10.0), Some(30.0), Some(30.0)));
    assert_eq!((row.least_load, row.without_load), (Some(10), 1));
    assert_eq!(row.said, BTreeMap::from([("no".to_owned(), 2)]));
    let lines = row.lines();
    assert!(lines.starts_with("lab         idle"), "{lines}");
    assert!(lines.ends_with("\n      2 x no"), "{lines}");
}
