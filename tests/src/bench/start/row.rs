//! What was measured of a contender: a row of the table and of the JSON.

use serde::Serialize;

use super::sample::Sample;
use super::standing::Standing;
use crate::bench::figures::Summary;
use crate::bench::table::Table;

pub(super) const TABLE: Table = Table::new(
    1,
    &[
        ("ms, median (quartiles; least)", 29),
        ("exec to first instruction", 27),
        ("of bare", 7),
        ("exec to exit", 27),
        ("of bare", 7),
        ("CPU", 5),
        ("user", 4),
        ("resident KiB", 12),
        ("wake-ups", 8),
    ],
);

/// A row. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    /// The size of its binary, if it is vmm.
    pub(super) binary_bytes: Option<u64>,
    pub(super) starts: usize,
    pub(super) first_instruction: Option<Summary>,
    pub(super) exit: Option<Summary>,
    /// User and system.
    pub(super) cpu: Option<Summary>,
    pub(super) user: Option<Summary>,
    pub(super) system: Option<Summary>,
    /// What the medians are of those of the bare calls.
    pub(super) first_instruction_of_bare: Option<f64>,
    pub(super) exit_of_bare: Option<f64>,
    pub(super) standing: Option<Standing>,
    /// Why there are no figures, or fewer.
    pub(super) trouble: Option<String>,
}

impl Row {
    /// What `starts` and a look at its idle guest came to, beside the row of the `bare` calls.
    pub(super) fn new(
        name: &str,
        binary_bytes: Option<u64>,
        starts: Result<Vec<Sample>, String>,
        standing: Result<Standing, String>,
        bare: Option<&Row>,
    ) -> Row {
        let trouble = starts.as_ref().err().or(standing.as_ref().err()).cloned();
        let starts = starts.unwrap_or_default();
        let all = |figure: fn(&Sample) -> f64| Summary::of(starts.iter().map(figure));
        let (first_instruction, exit) = (all(|it| it.first), all(|it| it.exit));
        let ratio = |own: Option<Summary>, bare: Option<Summary>| Some(own?.median / bare?.median);
        Row {
            name: name.to_owned(),
            binary_bytes,
            starts: starts.len(),
            first_instruction,
            exit,
            cpu: all(|it| it.user + it.system),
            user: all(|it| it.user),
            system: all(|it| it.system),
            first_instruction_of_bare: bare.and_then(|bare| ratio(first_instruction, bare.first_instruction)),
            exit_of_bare: bare.and_then(|bare| ratio(exit, bare.exit)),
            standing: standing.ok(),
            trouble,
        }
    }

    /// The row as a line of the table, with what went wrong below it.
    pub(super) fn lines(&self) -> String {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let spread = |all: Option<Summary>| {
            or_none(all.map(|Summary { median, min, quartiles: [low, high], .. }| {
                format!("{median:.2} ({low:.2} to {high:.2}; {min:.2})")
            }))
        };
        let times = |ratio: Option<f64>| or_none(ratio.map(|ratio| format!("{ratio:.2}x")));
        let median = |all: Option<Summary>| or_none(all.map(|all| format!("{:.2}", all.median)));
        let standing = self.standing.as_ref();
        let mut text = TABLE.row([
            self.name.clone(),
            spread(self.first_instruction),
            times(self.first_instruction_of_bare),
            spread(self.exit),
            times(self.exit_of_bare),
            median(self.cpu),
            median(self.user),
            or_none(standing.map(|standing| standing.resident_kib.to_string())),
            or_none(standing.and_then(|standing| standing.wakeups).map(|wakeups| wakeups.to_string())),
        ]);
        if let Some(trouble) = &self.trouble {
            text.push_str(&format!("\n    {trouble}"));
        }
        text
    }
}

#[cfg(test)]
#[path = "row_test.rs"]
mod tests;
