//! What a run of the suite cost, and what of it cost most: where to look when it takes too long.

use std::fmt::{self, Display};
use std::iter::Sum;
use std::ops::Add;
use std::time::Duration;

/// Cases that are listed.
const LISTED: usize = 20;

/// What something took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// User and system time of what ran: cargo and its children, or QEMU.
    pub(super) cpu: Duration,
    pub(super) wall: Duration,
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost { cpu: self.cpu + other.cpu, wall: self.wall + other.wall }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Add::add)
    }
}

impl Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s, CPU {:.1} s", self.wall.as_secs_f32(), self.cpu.as_secs_f32())
    }
}

/// Every cost of a run.
#[derive(Debug, Default)]
pub(super) struct Costs {
    steps: Vec<(String, Cost)>,
    boots: Vec<Cost>,
    cases: Vec<(String, Cost)>,
}

impl Costs {
    /// A cargo command.
    pub(super) fn step(&mut self, name: &str, cost: Cost) {
        self.steps.push((name.to_owned(), cost));
    }

    /// A host, until its agent answered.
    pub(super) fn boot(&mut self, cost: Cost) {
        self.boots.push(cost);
    }

    /// A case in a host that was there.
    pub(super) fn case(&mut self, name: &str, cost: Cost) {
        self.cases.push((name.to_owned(), cost));
    }

    /// Those of another part of the run.
    pub(super) fn add(&mut self, other: Costs) {
        self.steps.extend(other.steps);
        self.boots.extend(other.boots);
        self.cases.extend(other.cases);
    }

    /// A table: the steps, all hosts and all cases together, then the dearest cases.
    pub(super) fn table(&self) -> String {
        let mut rows = self.steps.clone();
        rows.push((format!("{} hosts booted", self.boots.len()), self.boots.iter().copied().sum()));
        rows.push((format!("{} cases", self.cases.len()), self.cases.iter().map(|(_, cost)| *cost).sum()));
        let mut cases = self.cases.clone();
        cases.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.cpu));
        rows.extend(cases.into_iter().take(LISTED).map(|(name, cost)| (format!("  {name}"), cost)));
        let mut text = format!("{:>8} {:>8}\n", "CPU s", "s");
        for (name, Cost { cpu, wall }) in rows {
            text.push_str(&format!("{:8.1} {:8.1}  {name}\n", cpu.as_secs_f32(), wall.as_secs_f32()));
        }
        text
    }
}

#[cfg(test)]
#[path = "costs_test.rs"]
mod tests;
