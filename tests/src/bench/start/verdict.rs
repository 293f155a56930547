//! What vmm promises of its start, against what was measured.

use super::contender::VMM;
use super::row::Row;

/// Exec to the first instruction, in times of the bare calls.
const FIRST_INSTRUCTION: f64 = 2.0;
/// Exec to exit, likewise.
const EXIT: f64 = 3.0;
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
        all.extend(slow("exec to first instruction", row.first_instruction_of_bare, FIRST_INSTRUCTION));
        all.extend(slow("exec to exit", row.exit_of_bare, EXIT));
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

#[cfg(test)]
#[path = "verdict_test.rs"]
mod tests;
