//! What was measured of a guest: a row of the table and of the JSON.

use serde::Serialize;

use super::guest::Monitor;
use crate::bench::figures::Summary;
use crate::bench::table::Table;

pub(super) const TABLE: Table = Table::new(
    2,
    &[("exec to exit", 20), ("by", 12), ("starts", 6), ("s of 10^9 instructions", 22), ("least to most", 16)],
);

/// A row. Times are in seconds of a clock that counts an instruction as a nanosecond.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) monitor: Monitor,
    pub(super) starts: usize,
    pub(super) exit: Option<Summary>,
    /// Why there are no figures.
    pub(super) trouble: Option<String>,
}

impl Row {
    pub(super) fn new(name: &'static str, monitor: Monitor, measured: Result<Vec<f64>, String>) -> Row {
        let trouble = measured.as_ref().err().cloned();
        let measured = measured.unwrap_or_default();
        Row { name, monitor, starts: measured.len(), exit: Summary::of(measured), trouble }
    }

    /// The row as a line of the table, with what went wrong below it.
    pub(super) fn lines(&self) -> String {
        let figure = |text: fn(&Summary) -> String| self.exit.as_ref().map_or_else(|| "-".to_owned(), text);
        let mut text = TABLE.row([
            self.name.to_owned(),
            self.monitor.name().to_owned(),
            self.starts.to_string(),
            figure(|exit| format!("{:.3}", exit.median)),
            figure(|exit| format!("{:.3} to {:.3}", exit.min, exit.max)),
        ]);
        if let Some(trouble) = &self.trouble {
            text.push_str(&format!("\n    {trouble}"));
        }
        text
    }
}

/// From the last line of what `stopwatch` prints, if the command succeeded.
pub(super) fn seconds(output: &str) -> Option<f64> {
    let mut words = output.lines().last()?.strip_prefix("stopwatch ")?.split(' ');
    let nanoseconds: f64 = words.next()?.parse().ok()?;
    (words.next()? == "0").then_some(nanoseconds / 1e9)
}

#[cfg(test)]
#[path = "row_test.rs"]
mod tests;
