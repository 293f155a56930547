//! A line on each device.

use super::Entry;
use super::names::Names;
use crate::report;

const HEAD: [&str; 8] = ["ADDRESS", "DEVICE", "DRIVER", "GROUP", "NODE", "RESET", "BARS", "PASSTHROUGH"];
/// Longer names are cut, in characters.
const WIDEST: usize = 56;
/// Between columns.
const GAP: &str = "  ";

pub(super) fn render(entries: &[Entry], names: &Names) -> String {
    let rows: Vec<[String; 8]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(entries.iter().map(|entry| row(entry, names)))
        .collect();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join(GAP).trim_end();
        text.push('\n');
    }
    text
}

fn row(entry: &Entry, names: &Names) -> [String; 8] {
    let device = &entry.device;
    let dash = || "-".to_owned();
    let bars: Vec<String> =
        device.bar_sizes.iter().filter(|size| **size != 0).map(|size| size_text(*size)).collect();
    [
        device.address.to_string(),
        cut(&title(entry, names)),
        device.driver.clone().unwrap_or_else(dash),
        device.group.as_ref().map_or_else(dash, |group| group.id.to_string()),
        device.numa_node.map_or_else(dash, |node| node.to_string()),
        if device.reset_methods.is_empty() { dash() } else { device.reset_methods.join(",") },
        if bars.is_empty() { dash() } else { bars.join(",") },
        entry.verdict(),
    ]
    .map(|cell| report::printable(&cell))
}

/// `Ethernet controller: Intel Corporation 82574L Gigabit Network Connection`, or with numbers for lack of names.
pub(super) fn title(entry: &Entry, names: &Names) -> String {
    let (vendor, device) = (entry.device.vendor, entry.device.device);
    let class = names.class(entry.device.class);
    match (names.vendor(vendor), names.device(vendor, device)) {
        (Some(vendor), Some(device)) => format!("{class}: {vendor} {device}"),
        (Some(vendor), None) => format!("{class}: {vendor} {device:04x}"),
        (None, _) => format!("{class}: {vendor:04x}:{device:04x}"),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDEST) {
        Some(_) => text.chars().take(WIDEST - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// `16K`, `256M`, `128G`: BARs are powers of two.
fn size_text(bytes: u64) -> String {
    let units = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit)) {
        Some((unit, suffix)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}
