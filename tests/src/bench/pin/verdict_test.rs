use super::*;
use crate::bench::pin::plan::{Cell, HELD_FOR_GOOD, Load, Pages};

fn row(strategy: Strategy, load: Load, failures: u64) -> Row {
    let cell = Cell { machine: Machine::Lab, load, pages: Pages::Small, strategy, mib: 64, starts: 2 };
    let mut row = Row::new(&cell, "7.3", &[], 0);
    row.starts = 2;
    row.failures = failures;
    row.least_load = Some(1);
    row.pages_found_in_cma = if strategy == Strategy::Prevent { 0 } else { 100 };
    row.replaced = 1;
    row
}

fn good() -> Vec<Row> {
    vec![
        row(Strategy::Others, HELD_FOR_GOOD, 1),
        row(Strategy::Others, Load::Idle, 0),
        row(Strategy::Prevent, HELD_FOR_GOOD, 0),
        row(Strategy::Evict, HELD_FOR_GOOD, 0),
        row(Strategy::Replace, HELD_FOR_GOOD, 0),
    ]
}

#[test]
fn others_fail_and_we_do_not() {
    assert_eq!(complaints(&good()), Vec::<String>::new());
}

#[test]
fn others_that_never_fail_prove_nothing() {
    let mut rows = good();
    rows[0].failures = 0;
    assert!(complaints(&rows)[0].contains("proves nothing"));
    // Without holders they need not fail, and rows that were not asked for are not missed.
    assert!(complaints(&good()[1..]).is_empty());
}

type Spoil = fn(&mut Row);

#[test]
fn each_promise_can_be_broken() {
    let breaks: [(usize, Spoil); 10] = [
        (0, |row| row.starts = 0),
        (0, |row| row.least_load = Some(0)),
        (1, |row| row.trouble = Some("the host is gone".to_owned())),
        (2, |row| row.failures = 1),
        (3, |row| row.pages_left_in_cma = 1),
        (4, |row| row.oom_kills = 1),
        (2, |row| row.pages_found_in_cma = 1),
        (3, |row| row.pages_found_in_cma = 0),
        (4, |row| row.replaced = 0),
        (4, |row| row.failures = 2),
    ];
    for (index, spoil) in breaks {
        let mut rows = good();
        spoil(&mut rows[index]);
        assert_eq!(complaints(&rows).len(), 1, "{rows:?}");
    }
}
