//! What vmm promises of its start, against what was measured.

use super::contender::{SANDBOXED, VMM};
use super::row::Row;
use crate::bench::figures::Summary;

/// Exec to the first instruction, in times of the bare calls.
const FIRST_INSTRUCTION: f64 = 2.0;
/// Exec to exit, likewise.
const EXIT: f64 = 3.0;
/// What a sandbox adds to either, in milliseconds.
const SANDBOX: f64 = 2.0;
/// Resident besides guest RAM.
const RESIDENT_KIB: u64 = 3 << 10;
/// The binary.
const BINARY_BYTES: u64 = 6 << 20;

/// What is not as promised.
pub(super) fn complaints(rows: &[Row]) -> Vec<String> {
    let mut all = Vec::new();
    for row in rows.iter().filter(|row| row.name.starts_with(VMM)) {
        let name = &row.name;
        let slow = |what: &str, ratio: Option<f64>, most: f64| match ratio {
            Some(ratio) if ratio <= most => None,
            Some(ratio) => {
                Some(format!("{name}: {what} takes {ratio:.2} times what the bare calls take, not {most}"))
            }
            None => Some(format!("{name}: {what} was not measured")),
        };
        if let Some(without) = name.strip_suffix(SANDBOXED) {
            let without = rows.iter().find(|row| row.name == without);
            all.extend(without.and_then(|without| dear_sandbox(row, without)));
        } else {
            all.extend(slow("exec to first instruction", row.first_instruction_of_bare, FIRST_INSTRUCTION));
            all.extend(slow("exec to exit", row.exit_of_bare, EXIT));
        }
        if let Some(bytes) = row.binary_bytes.filter(|bytes| *bytes > BINARY_BYTES) {
            all.push(format!("{name}: the binary has {bytes} bytes, not {BINARY_BYTES}"));
        }
        let Some(standing) = &row.standing else {
            all.push(format!("{name}: an idle guest was not measured"));
            continue;
        };
        if standing.resident_kib > RESIDENT_KIB {
            all.push(format!(
                "{name}: {} KiB are resident besides guest memory, not {RESIDENT_KIB}",
                standing.resident_kib
            ));
        }
        if let Some(wakeups @ 1..) = standing.wakeups {
            all.push(format!("{name}: {wakeups} wake-ups with an idle guest, not 0"));
        }
    }
    all
}

/// What is wrong with the row of a sandbox, beside that of the same without.
fn dear_sandbox(row: &Row, without: &Row) -> Option<String> {
    let more = |on: Option<Summary>, off: Option<Summary>| Some(on?.median - off?.median);
    let (first, exit) =
        (more(row.first_instruction, without.first_instruction), more(row.exit, without.exit));
    match first.zip(exit) {
        Some((first, exit)) if first <= SANDBOX && exit <= SANDBOX => None,
        Some((first, exit)) => Some(format!(
            "{}: the sandbox adds {first:.2} ms to the first instruction and {exit:.2} ms to the exit, not {SANDBOX}",
            row.name
        )),
        None => Some(format!("{}: was not measured", row.name)),
    }
}

#[cfg(test)]
#[path = "verdict_test.rs"]
mod tests;
