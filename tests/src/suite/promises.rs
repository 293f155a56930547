//! What SPECIFICATION.md says holds vmm's promises, and docs/devices/README.md shows devices, and whether a run has done so.

use std::collections::BTreeSet;

use super::case::LONG;

const SPECIFICATION: &str = include_str!("../../../SPECIFICATION.md");
const DEVICES: &str = include_str!("../../../docs/devices/README.md");

/// What is named in the last column of their tables.
pub(crate) fn named() -> impl Iterator<Item = &'static str> {
    let rows = SPECIFICATION.lines().chain(DEVICES.lines()).filter(|line| line.starts_with("| "));
    rows.filter_map(|line| line.split(" | ").last()).flat_map(quoted)
}

/// The devices that have a row, by their flags.
pub(crate) fn devices() -> impl Iterator<Item = &'static str> {
    let rows = DEVICES.lines().filter(|line| line.starts_with("| "));
    rows.filter_map(|line| line.split(" | ").next()).flat_map(quoted)
}

fn quoted(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split('`').skip(1).step_by(2)
}

/// What holds a promise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A case, part of every run or not.
    Case { long: bool },
    /// A unit test.
    Test,
    /// Another command of the lab: a bench, `fuzz`, `release`.
    Command,
}

impl Holder {
    /// What kind of thing has such a name.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            name if name.contains('/') => Self::Case { long: name.starts_with(LONG) },
            name if name.contains('_') => Self::Test,
            _ => Self::Command,
        }
    }
}

/// The names of the tests that passed, from what cargo printed.
pub(super) fn passed(output: &str) -> impl Iterator<Item = String> {
    let passed = output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"));
    passed.map(|path| path.rsplit("::").next().unwrap_or(path).to_owned())
}

/// What a whole run should have shown and has not.
pub(super) fn unshown(passed: &BTreeSet<String>) -> Vec<&'static str> {
    let of_a_run = |name: &&str| matches!(Holder::of(name), Holder::Case { long: false } | Holder::Test);
    named().filter(of_a_run).filter(|name| !passed.contains(*name)).collect()
}

#[cfg(test)]
#[path = "promises_test.rs"]
mod tests;
