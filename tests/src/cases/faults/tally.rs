//! What came of a campaign, as a table.

use std::fmt;

use super::verdict::Survival;

/// All that was tried.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: Vec<Row>,
}

/// One fault.
#[derive(Debug, Default)]
struct Row {
    name: &'static str,
    survived: Vec<Survival>,
    lost: Vec<String>,
    /// What it was to show and did not.
    not_shown: Vec<Survival>,
}

impl Row {
    fn count(&self, survival: Survival) -> usize {
        self.survived.iter().filter(|it| **it == survival).count()
    }

    /// How often it was tried, and what came of that.
    fn cells(&self) -> [usize; 5] {
        let [went_on, refused, killed] =
            [Survival::WentOn, Survival::Refused, Survival::Killed].map(|it| self.count(it));
        let lost = self.lost.len();
        [went_on + refused + killed + lost, went_on, refused, killed, lost]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, self.name, self.cells())
    }
}

impl Tally {
    /// The tries of one fault, which was to have had each of `expected`.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        tries: Vec<Result<Survival, String>>,
        expected: &[Survival],
    ) {
        let mut row = Row { name, ..Row::default() };
        for outcome in tries {
            match outcome {
                Ok(survival) => row.survived.push(survival),
                Err(why) => row.lost.push(why),
            }
        }
        row.not_shown = expected.iter().copied().filter(|it| row.count(*it) == 0).collect();
        self.rows.push(row);
    }

    /// The row of the last fault.
    pub(super) fn last(&self) -> String {
        self.rows.last().map(Row::to_string).unwrap_or_default()
    }

    /// # Errors
    /// What was lost, and what the campaign did not show.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let mut wrong = String::new();
        for row in &self.rows {
            for lost in &row.lost {
                wrong += &format!("{}, {lost}\n", row.name);
            }
            for missing in &row.not_shown {
                wrong += &format!("{}: no try was {missing:?}, so this was not tested\n", row.name);
            }
        }
        if wrong.is_empty() && !self.rows.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | tries | went on | refused | killed | lost |\n|---|---|---|---|---|---|")?;
        let mut sums = [0; 5];
        for row in &self.rows {
            sums.iter_mut().zip(row.cells()).for_each(|(sum, cell)| *sum += cell);
            row.fmt(f)?;
        }
        line(f, "all", sums)
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, cells: [usize; 5]) -> fmt::Result {
    write!(f, "| {name} |")?;
    cells.iter().try_for_each(|cell| write!(f, " {cell} |"))?;
    writeln!(f)
}

#[cfg(test)]
#[path = "tally_test.rs"]
mod tests;
