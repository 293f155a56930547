//! What vmm promises, against what was measured.

use super::row::Row;

/// At least as good as QEMU, but for what the medians of two runs differ by.
const MOST: f64 = 1.05;

/// What is not as promised.
pub(super) fn complaints(rows: &[Row]) -> Vec<String> {
    let mut all = Vec::new();
    for row in rows {
        match row.of_qemu.map(|ratios| ratios.median) {
            Some(ratio) if ratio <= MOST => {}
            Some(ratio) => {
                all.push(format!("{}, {}: {ratio:.2} of what QEMU takes", row.device.name(), row.load))
            }
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
