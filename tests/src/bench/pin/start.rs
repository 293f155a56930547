//! One start: what it said, what the host's counters said meanwhile, and whether the load was really on.
//!
//! Sources: docs/pinning-report.md, `/proc/vmstat` (mm/vmstat.c), `/proc/pagetypeinfo`, and what tests/programs/src/bin/hold.rs
//! prints.

use std::time::Duration;

use serde::Deserialize;

use super::plan::{Cell, Load, REPORT};
use crate::host::{Deadline, Host, HostError, last_lines};

/// A start is given up after so long. A start may take its 10 s of retries for each part of memory, under emulation.
const DEADLINE: Duration = Duration::from_secs(240);
/// Lines of output that are kept of a start that failed without a report.
const SAID: usize = 3;
/// The order of a huge page.
const HUGE_ORDER: usize = 9;
/// Pages of 2 MiB in a MiB, inverted.
const MIB_PER_HUGE_PAGE: u64 = 2;

/// Runs a start between two looks at the host.
const SCRIPT: &str = r#"
report=$1; shift; rm -f $report
echo "== blocks"; cat /proc/pagetypeinfo
echo "== before"; cat /proc/vmstat
echo "== output"; "$@" 2>&1; status=$?
echo; echo "== after"; cat /proc/vmstat
echo "== report"; cat $report 2>/dev/null
echo "== status"; echo $status
"#;

/// What came of a start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Start {
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
    /// From the first page to the last that is mapped.
    pub(crate) ms: f64,
    /// How often the kernel refused, and was asked again.
    pub(crate) retries: u64,
    /// Parts of memory that got new pages.
    pub(crate) replaced: u64,
    /// Pages in CMA or ZONE_MOVABLE before the pin, and after it.
    pub(crate) found: u64,
    pub(crate) left: u64,
    /// Pages that were moved, and that could not be: all of the host's.
    pub(crate) moved: u64,
    pub(crate) unmoved: u64,
    /// Huge pages that memfds got.
    pub(crate) huge_pages: u64,
    pub(crate) oom_kills: u64,
    /// How much of the load there was, by its own measure; 0 if none.
    pub(crate) load: u64,
}

/// What of the pinning report matters here.
#[derive(Debug, Deserialize)]
struct Report {
    pinned: Option<Pinned>,
    failed: Option<Failed>,
}

#[derive(Debug, Deserialize)]
struct Pinned {
    retries: u64,
    replaced: u64,
    populating_ms: f64,
    pinning_ms: f64,
    found: Option<Residency>,
    now: Option<Residency>,
}

#[derive(Debug, Deserialize)]
struct Failed {
    message: String,
    causes: Vec<String>,
    elapsed_ms: f64,
}

#[derive(Debug, Deserialize)]
struct Residency {
    cma: u64,
    movable: u64,
}

impl Residency {
    fn misplaced(residency: Option<&Residency>) -> u64 {
        residency.map_or(0, |residency| residency.cma.saturating_add(residency.movable))
    }
}

/// Starts once.
pub(super) fn start(host: &Host, cell: &Cell) -> Result<Start, HostError> {
    let command = cell.command();
    let mut argv = vec!["sh", "-c", SCRIPT, "start", REPORT];
    argv.extend(command.iter().map(String::as_str));
    let ran = host.run(&argv, &[], Deadline::after(DEADLINE))?;
    Ok(read(cell, &String::from_utf8_lossy(&ran.stdout)))
}

/// Reads what [`SCRIPT`] printed.
fn read(cell: &Cell, text: &str) -> Start {
    let grown = |name: &str| counter(section(text, "after"), name) - counter(section(text, "before"), name);
    let grown = |name: &str| u64::try_from(grown(name)).unwrap_or(0);
    let output = section(text, "output");
    let report = serde_json::from_str::<Report>(section(text, "report"));
    let (pinned, failed) = report.map_or((None, None), |report| (report.pinned, report.failed));
    let success = section(text, "status").trim() == "0";
    let failure = match (&failed, &pinned) {
        (_, Some(_)) if success => None,
        (Some(failed), _) => Some(failed.words()),
        _ => Some(last_lines(output.trim(), SAID)),
    };
    let pinned = pinned.as_ref();
    let of = |figure: fn(&Pinned) -> u64| pinned.map_or(0, figure);
    Start {
        failure,
        ms: pinned.map_or_else(
            || failed.as_ref().map_or(0.0, |failed| failed.elapsed_ms),
            |pinned| pinned.populating_ms + pinned.pinning_ms,
        ),
        retries: of(|pinned| pinned.retries),
        replaced: of(|pinned| pinned.replaced),
        found: of(|pinned| Residency::misplaced(pinned.found.as_ref())),
        left: of(|pinned| Residency::misplaced(pinned.now.as_ref())),
        moved: grown("pgmigrate_success"),
        unmoved: grown("pgmigrate_fail"),
        huge_pages: grown("thp_file_alloc"),
        oom_kills: grown("oom_kill"),
        load: match cell.load {
            Load::Idle => rounds(output).unwrap_or(1),
            Load::DropCaches => grown("drop_pagecache").min(rounds(output).unwrap_or(u64::MAX)),
            Load::Compaction => grown("compact_migrate_scanned").min(rounds(output).unwrap_or(u64::MAX)),
            Load::Fragmented => {
                let wanted = u64::from(cell.mib) / MIB_PER_HUGE_PAGE;
                let short = wanted.saturating_sub(huge_blocks(section(text, "blocks")));
                short.min(rounds(output).unwrap_or(u64::MAX))
            }
            Load::Holders { .. } => rounds(output).unwrap_or(0),
        },
    }
}

impl Failed {
    fn words(&self) -> String {
        let causes = self.causes.iter().map(|cause| format!(": {cause}"));
        format!("{}{}", self.message, causes.collect::<String>())
    }
}

/// What was printed under a heading.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let heading = format!("== {heading}\n");
    let rest = text.split_once(&heading).map_or("", |(_, rest)| rest);
    rest.split_once("\n== ").map_or(rest, |(section, _)| section)
}

/// The value of a counter; of zones together.
fn counter(vmstat: &str, name: &str) -> i64 {
    let values = vmstat.lines().filter_map(|line| line.split_once(' '));
    values.filter(|(found, _)| *found == name).filter_map(|(_, value)| value.trim().parse::<i64>().ok()).sum()
}

/// How often the laziest of the holders held what it was to hold; `None` without holders.
fn rounds(output: &str) -> Option<u64> {
    let of_each = output.lines().filter_map(|line| line.strip_prefix("hold: "));
    let ends = of_each.filter(|line| !line.contains(" pages held"));
    ends.map(|line| line.split_once(" rounds of ").and_then(|(rounds, _)| rounds.parse().ok()).unwrap_or(0))
        .min()
}

/// Free huge pages outside CMA and ZONE_MOVABLE.
fn huge_blocks(pagetypeinfo: &str) -> u64 {
    let mut huge = 0_u64;
    for line in pagetypeinfo.lines() {
        let Some((place, counts)) = line.split_once(", type ") else { continue };
        let mut words = counts.split_whitespace();
        let kind = words.next().unwrap_or_default();
        if place.ends_with("Movable") || matches!(kind, "CMA" | "Isolate") {
            continue;
        }
        for (order, count) in words.enumerate().skip(HUGE_ORDER) {
            let blocks: u64 = count.trim_start_matches('>').parse().unwrap_or(0);
            huge = huge.saturating_add(blocks << (order - HUGE_ORDER).min(16));
        }
    }
    huge
}

#[cfg(test)]
#[path = "start_test.rs"]
mod tests;
