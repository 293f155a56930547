//! What vmm promises, against what was measured.

use super::row::Row;

/// At least as good as QEMU, but for what nobody would notice.
const MOST: f64 = 1.05;

/// What is not as promised.
pub(super) fn complaints(rows: &[Row]) -> Vec<String> {
    let mut all = Vec::new();
    for row in rows {
        match row.of_qemu.map(|ratios| ratios.median).zip(row.of_qemu_at_least) {
            // What one guest takes differs by more than that from turn to turn, so that a median may lie above by chance.
            Some((_, at_least)) if at_least <= MOST => {}
            Some((ratio, at_least)) => all.push(format!(
                "{}, {}: {ratio:.2} of what QEMU takes, and surely {at_least:.2}",
                row.device.name(),
                row.load
            )),
            None => all.push(format!("{}, {}: was not measured", row.device.name(), row.load)),
        }
    }
    if rows.is_empty() {
        all.push("no row has such a name".to_owned());
    }
    all
}

#[cfg(test)]
#[path = "verdict_test.rs"]
mod tests;
