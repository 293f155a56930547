//! What a bring-up did or why it failed, for programs: the file that `--report` writes. Its schema is documented in
//! docs/pinning-report.md; fields are only added, or [`SCHEMA`] changes.

use std::time::Duration;

use miette::Diagnostic;
use serde::Serialize;

use super::errors::PinError;
use super::holders::Holder;
use super::probe::Probe;
use super::report::{Means, PinReport, Times};
use crate::GuestRange;
use crate::residency::{Basis, Census, Vmstat};

/// Name and version of the format.
pub const SCHEMA: &str = "vmm-pin-report/1";
/// Culprits that are listed one by one.
const LISTED: usize = 256;

/// The record.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    schema: &'static str,
    outcome: &'static str,
    devices: Vec<String>,
    memory_bytes: u64,
    host: Probe,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Pinned>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Failed>,
}

#[derive(Clone, Debug, Serialize)]
struct Pinned {
    pages: u64,
    mappings: u64,
    pinners: Vec<&'static str>,
    pinned_by_dma_map_bytes: u64,
    passed_over: Vec<String>,
    nodes: Vec<Node>,
    found: Option<Residency>,
    now: Option<Residency>,
    misplaced_pages: u64,
    retries: u64,
    culprits: u64,
    replaced: u64,
    culprit_list: Vec<Culprit>,
    counters: Option<Counters>,
    waited_ms: f64,
    populating_ms: f64,
    pinning_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Failed {
    message: String,
    causes: Vec<String>,
    remedy: String,
    kind: &'static str,
    guest: Option<Range>,
    culprits: Vec<Range>,
    attempts: u32,
    elapsed_ms: f64,
    residency: Option<Residency>,
    holders: Vec<Holder>,
}

#[derive(Clone, Debug, Serialize)]
struct Range {
    start: u64,
    size: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Node {
    node: u32,
    bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Culprit {
    start: u64,
    size: u64,
    refusals: u32,
    replaced: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Residency {
    exact: bool,
    normal: u64,
    cma: u64,
    cma_areas: Vec<Area>,
    movable: u64,
    absent: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Area {
    name: String,
    pages: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Counters {
    pgmigrate_success: u64,
    pgmigrate_fail: u64,
    thp_migration_success: u64,
    thp_migration_fail: u64,
    thp_migration_split: u64,
    thp_split_page_failed: u64,
    thp_file_alloc: u64,
    thp_file_fallback: u64,
    compact_stall: u64,
    allocstall: u64,
    oom_kill: u64,
}

impl Record {
    /// The record of a bring-up of `bytes` of memory for `devices`.
    pub fn new(result: Result<&PinReport, &PinError>, devices: &[String], bytes: u64) -> Self {
        Self {
            schema: SCHEMA,
            outcome: if result.is_ok() { "pinned" } else { "failed" },
            devices: devices.to_vec(),
            memory_bytes: bytes,
            host: Probe::of_host(),
            pinned: result.ok().map(Pinned::new),
            failed: result.err().map(Failed::new),
        }
    }
}

impl Pinned {
    fn new(report: &PinReport) -> Self {
        let Means { pinners, bare, passed_over } = &report.means;
        let Times { waited, populating, pinning } = report.times;
        let culprit = |it: &super::Culprit| Culprit {
            start: it.guest.start,
            size: it.guest.size,
            refusals: it.refusals,
            replaced: it.replaced,
        };
        Self {
            pages: report.pages,
            mappings: report.mapped.len() as u64,
            pinners: pinners.iter().map(|pinner| pinner.name()).collect(),
            pinned_by_dma_map_bytes: *bare,
            passed_over: passed_over.clone(),
            nodes: report.nodes.iter().map(|&(node, bytes)| Node { node, bytes }).collect(),
            found: report.found.as_ref().map(Residency::new),
            now: report.census.as_ref().map(Residency::new),
            misplaced_pages: report.misplaced(),
            retries: report.retries,
            culprits: report.culprits.len() as u64,
            replaced: report.culprits.iter().filter(|it| it.replaced).count() as u64,
            culprit_list: report.culprits.iter().take(LISTED).map(culprit).collect(),
            counters: report.counters.as_ref().map(Counters::new),
            waited_ms: ms(waited),
            populating_ms: ms(populating),
            pinning_ms: ms(pinning),
        }
    }
}

impl Failed {
    fn new(error: &PinError) -> Self {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        let mut failed = Self {
            message: error.to_string(),
            causes,
            remedy: error.help().map(|help| help.to_string()).unwrap_or_default(),
            kind: error.kind(),
            guest: None,
            culprits: Vec::new(),
            attempts: 0,
            elapsed_ms: 0.0,
            residency: None,
            holders: Vec::new(),
        };
        if let PinError::Refused { guest, culprits, attempts, elapsed, census, holders, .. } = error {
            failed.guest = Some(Range::new(guest));
            failed.culprits = culprits.iter().take(LISTED).map(Range::new).collect();
            failed.attempts = *attempts;
            failed.elapsed_ms = ms(*elapsed);
            failed.residency = census.as_deref().map(Residency::new);
            failed.holders.clone_from(holders);
        }
        failed
    }
}

impl Range {
    fn new(range: &GuestRange) -> Self {
        Self { start: range.start, size: range.size }
    }
}

impl Residency {
    fn new(census: &Census) -> Self {
        let area = |(name, pages): &(String, u64)| Area { name: name.clone(), pages: *pages };
        Self {
            exact: !matches!(census.basis, Basis::CmaFreeEstimate { .. }),
            normal: census.normal,
            cma: census.in_cma(),
            cma_areas: census.cma.iter().map(area).collect(),
            movable: census.movable,
            absent: census.absent,
        }
    }
}

impl Counters {
    fn new(grown: &Vmstat) -> Self {
        Self {
            pgmigrate_success: grown.pgmigrate_success,
            pgmigrate_fail: grown.pgmigrate_fail,
            thp_migration_success: grown.thp_migration_success,
            thp_migration_fail: grown.thp_migration_fail,
            thp_migration_split: grown.thp_migration_split,
            thp_split_page_failed: grown.thp_split_page_failed,
            thp_file_alloc: grown.thp_file_alloc,
            thp_file_fallback: grown.thp_file_fallback,
            compact_stall: grown.compact_stall,
            allocstall: grown.allocstall,
            oom_kill: grown.oom_kill,
        }
    }
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
