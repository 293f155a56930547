//! What vmm promises, against what was measured.

use super::guest::Monitor;
use super::row::Row;

/// Most seconds from exec to exit. Cloud Hypervisor, which is in no package of Debian's, once took 0.33 and 1.5 in such a host with a
/// guest of this size; these are 0.9 and 0.6 of it.
const MOST: [(&str, f64); 2] = [("plain", 0.297), ("NVMe", 0.9)];

/// What is not as promised.
pub(super) fn complaints(rows: &[Row]) -> Vec<String> {
    let mut all = Vec::new();
    for row in rows {
        let most = MOST.iter().find(|(of, _)| row.name.contains(of)).map_or(0.0, |(_, most)| *most);
        match row.exit {
            Some(_) if row.monitor != Monitor::Vmm => {}
            Some(exit) if exit.median <= most => {}
            Some(exit) => all.push(format!("{}: {:.3} s, not {most}", row.name, exit.median)),
            None => all.push(format!("{}, {}: was not measured", row.name, row.monitor.name())),
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
