//! `/proc/interrupts`, as `kernel/irq/proc.c` writes it: a line of CPUs, then a line of counts for each
//! interrupt.

use std::collections::BTreeMap;

use super::system::{System, text};

/// One interrupt of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interrupt {
    /// How often it was delivered, per CPU column.
    pub(super) counts: Vec<u64>,
    /// Chip, hardware number and the names of the handlers.
    pub(super) label: String,
}

impl Interrupt {
    /// How often it was delivered on all CPUs.
    pub(super) fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// All numbered interrupts that have a handler.
pub(super) fn read(system: &System) -> BTreeMap<u32, Interrupt> {
    parse(&text(&system.path("proc/interrupts")).unwrap_or_default())
}

fn parse(table: &str) -> BTreeMap<u32, Interrupt> {
    let mut lines = table.lines();
    let cpus = lines.next().unwrap_or_default().split_ascii_whitespace().count();
    lines.filter_map(|line| parse_line(line, cpus)).collect()
}

fn parse_line(line: &str, cpus: usize) -> Option<(u32, Interrupt)> {
    let (number, rest) = line.split_once(':')?;
    let mut words = rest.split_ascii_whitespace();
    let counts = words.by_ref().take(cpus).map(str::parse).collect::<Result<_, _>>().ok()?;
    let label = words.collect::<Vec<_>>().join(" ");
    Some((number.trim().parse().ok()?, Interrupt { counts, label }))
}

#[cfg(test)]
#[path = "interrupts_test.rs"]
mod tests;
