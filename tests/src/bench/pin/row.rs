//! The starts of one kind taken together: a row of the table and of the JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::Cell;
use super::start::Start;
use crate::bench::figures::percentile;
use crate::bench::table::Table;

pub(super) const TABLE: Table = Table::new(
    4,
    &[
        ("host", 10),
        ("load", 12),
        ("pages", 5),
        ("start", 12),
        ("starts", 6),
        ("failed", 6),
        ("retries", 7),
        ("p50 ms", 7),
        ("p99 ms", 7),
        ("max ms", 7),
        ("to move", 8),
        ("moved", 8),
        ("left", 5),
        ("copies", 6),
        ("OOM", 3),
    ],
);

/// A row. Sums over all its starts, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) host: &'static str,
    /// The host's kernel.
    pub(crate) kernel: String,
    pub(crate) load: String,
    pub(crate) pages: &'static str,
    pub(crate) strategy: &'static str,
    pub(crate) memory_mib: u32,
    /// Whether neighbours held pages.
    pub(crate) holders: bool,
    pub(crate) starts: u64,
    pub(crate) failures: u64,
    pub(crate) retries: u64,
    /// Of the starts that succeeded, from the first page to the last that is mapped.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    /// Pages in CMA or ZONE_MOVABLE before they were pinned, and after.
    pub(crate) pages_found_in_cma: u64,
    pub(crate) pages_left_in_cma: u64,
    /// Pages of 4 KiB that the host moved meanwhile, for whatever reason, and that it failed to move.
    pub(crate) pages_migrated: u64,
    pub(crate) pages_not_migrated: u64,
    /// Parts of up to 2 MiB that got new pages.
    pub(crate) replaced: u64,
    pub(crate) huge_pages: u64,
    pub(crate) oom_kills: u64,
    /// The least that a start had of its load: pages dropped in turns, pages scanned, huge pages short, pages held in turns.
    pub(crate) least_load: Option<u64>,
    /// Starts that the load missed; they were repeated, and count if they failed.
    pub(crate) without_load: u64,
    /// What failures said, and how many of them.
    pub(crate) said: BTreeMap<String, u64>,
    /// Why the row ended before its time, for example that a start wedged its host.
    pub(crate) trouble: Option<String>,
}

impl Row {
    /// The row of a cell's starts, without those that the load missed.
    pub(super) fn new(cell: &Cell, kernel: &str, starts: &[Start], without_load: u64) -> Row {
        let sum = |figure: fn(&Start) -> u64| starts.iter().map(figure).fold(0, u64::saturating_add);
        let mut said = BTreeMap::new();
        for failure in starts.iter().filter_map(|start| start.failure.clone()) {
            *said.entry(failure).or_insert(0) += 1;
        }
        let mut times: Vec<f64> =
            starts.iter().filter(|start| start.failure.is_none()).map(|start| start.ms).collect();
        times.sort_by(f64::total_cmp);
        Row {
            name: cell.name(),
            host: cell.machine.name(),
            kernel: kernel.to_owned(),
            load: cell.load.name(),
            pages: cell.pages.name(),
            strategy: cell.strategy.name(),
            memory_mib: cell.mib,
            holders: !cell.holders().is_empty(),
            starts: starts.len() as u64,
            failures: said.values().sum(),
            retries: sum(|start| start.retries),
            p50_ms: percentile(&times, 50),
            p99_ms: percentile(&times, 99),
            max_ms: times.last().copied(),
            pages_found_in_cma: sum(|start| start.found),
            pages_left_in_cma: sum(|start| start.left),
            pages_migrated: sum(|start| start.moved),
            pages_not_migrated: sum(|start| start.unmoved),
            replaced: sum(|start| start.replaced),
            huge_pages: sum(|start| start.huge_pages),
            oom_kills: sum(|start| start.oom_kills),
            least_load: starts.iter().map(|start| start.load).min(),
            without_load,
            said,
            trouble: None,
        }
    }

    /// The row as a line of the table, with what failures said below it.
    pub(super) fn lines(&self) -> String {
        let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        let mut text = TABLE.row([
            self.host.to_owned(),
            self.load.clone(),
            self.pages.to_owned(),
            self.strategy.to_owned(),
            self.starts.to_string(),
            self.failures.to_string(),
            self.retries.to_string(),
            ms(self.p50_ms),
            ms(self.p99_ms),
            ms(self.max_ms),
            self.pages_found_in_cma.to_string(),
            self.pages_migrated.to_string(),
            self.pages_left_in_cma.to_string(),
            self.replaced.to_string(),
            self.oom_kills.to_string(),
        ]);
        for (said, times) in &self.said {
            for (index, line) in said.lines().enumerate() {
                let times = if index == 0 { format!("{times} x") } else { String::new() };
                text.push_str(&format!("\n    {times:>5} {line}"));
            }
        }
        if let Some(trouble) = &self.trouble {
            text.push_str(&format!("\n          ended: {trouble}"));
        }
        text
    }
}

#[cfg(test)]
#[path = "row_test.rs"]
mod tests;
