//! What the campaign has to show: that others fail, so that there is something to be shown, and that we never do.

use super::plan::{Machine, Strategy};
use super::row::Row;

/// What is not as promised, a sentence each.
pub(super) fn complaints(rows: &[Row]) -> Vec<String> {
    let mut complaints: Vec<String> = rows.iter().flat_map(of_row).collect();
    for machine in Machine::ALL {
        complaints.extend(of_machine(machine, rows));
    }
    complaints
}

fn of_row(row: &Row) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            complaints.push(format!("{}: {what}", row.name));
        }
    };
    if let Some(trouble) = &row.trouble {
        must(false, trouble.clone());
    }
    must(row.starts > 0, "nothing was started".to_owned());
    must(row.least_load != Some(0), "the load was not on all the time".to_owned());
    if row.strategy == Strategy::Others.name() {
        return complaints;
    }
    must(row.failures == 0, format!("{} of {} starts failed", row.failures, row.starts));
    must(row.pages_left_in_cma == 0, format!("{} pages were left in CMA", row.pages_left_in_cma));
    must(row.oom_kills == 0, format!("{} processes were killed for lack of memory", row.oom_kills));
    if row.strategy == Strategy::Prevent.name() {
        let found = row.pages_found_in_cma;
        must(found == 0, format!("{found} pages lay in CMA and had to be moved"));
    } else {
        must(row.pages_found_in_cma > 0, "no page lay in CMA, so nothing was shown".to_owned());
    }
    if row.strategy == Strategy::Replace.name() {
        must(row.replaced > 0, "nothing was replaced by a copy".to_owned());
    }
    complaints
}

/// Under holders others have to fail.
fn of_machine(machine: Machine, rows: &[Row]) -> Option<String> {
    let others = |row: &&Row| row.host == machine.name() && row.strategy == Strategy::Others.name();
    let mut held = rows.iter().filter(others).filter(|row| row.holders).peekable();
    held.peek()?;
    let failed = held.any(|row| row.failures > 0);
    (!failed).then(|| {
        format!("{}: no start failed that did as others do, so the campaign proves nothing", machine.name())
    })
}

#[cfg(test)]
#[path = "verdict_test.rs"]
mod tests;
