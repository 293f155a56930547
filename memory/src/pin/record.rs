//! What a bring-up did or why it failed, for programs: the file that `--report` writes. Its schema is documented in
//! docs/pinning-report.md; fields are only added, or [`SCHEMA`] changes.

use std::time::Duration;

use miette::Diagnostic;
use serde::Serialize;

use super::errors::PinError;
use super::helper::HelperCommand;
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
    pub(super) schema: &'static str,
    pub(super) outcome: &'static str,
    pub(super) devices: Vec<String>,
    pub(super) memory_bytes: u64,
    pub(super) host: Probe,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pinned: Option<Pinned>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<Failed>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Pinned {
    pub(super) pages: u64,
    pub(super) mappings: u64,
    pub(super) pinners: Vec<&'static str>,
    pub(super) pinned_by_dma_map_bytes: u64,
    pub(super) passed_over: Vec<String>,
    pub(super) nodes: Vec<Node>,
    pub(super) found: Option<Residency>,
    pub(super) now: Option<Residency>,
    pub(super) misplaced_pages: u64,
    pub(super) retries: u64,
    pub(super) culprits: u64,
    pub(super) replaced: u64,
    pub(super) culprit_list: Vec<Culprit>,
    pub(super) counters: Option<Counters>,
    pub(super) waited_ms: f64,
    pub(super) populating_ms: f64,
    pub(super) pinning_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Failed {
    pub(super) message: String,
    pub(super) causes: Vec<String>,
    pub(super) remedy: String,
    pub(super) kind: &'static str,
    pub(super) guest: Option<Range>,
    pub(super) culprits: Vec<Range>,
    pub(super) attempts: u32,
    pub(super) elapsed_ms: f64,
    pub(super) residency: Option<Residency>,
    pub(super) holders: Vec<Holder>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) size: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Node {
    pub(super) node: u32,
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Culprit {
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) refusals: u32,
    pub(super) replaced: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Residency {
    pub(super) exact: bool,
    pub(super) normal: u64,
    pub(super) cma: u64,
    pub(super) cma_areas: Vec<Area>,
    pub(super) movable: u64,
    pub(super) absent: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Area {
    pub(super) name: String,
    pub(super) pages: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Counters {
    pub(super) pgmigrate_success: u64,
    pub(super) pgmigrate_fail: u64,
    pub(super) thp_migration_success: u64,
    pub(super) thp_migration_fail: u64,
    pub(super) thp_migration_split: u64,
    pub(super) thp_split_page_failed: u64,
    pub(super) thp_file_alloc: u64,
    pub(super) thp_file_fallback: u64,
    pub(super) compact_stall: u64,
    pub(super) allocstall: u64,
    pub(super) oom_kill: u64,
}

impl Record {
    /// The record of a bring-up of `bytes` of memory for `devices`. What the host allows is tried out in a `helper`.
    pub fn new(
        result: Result<&PinReport, &PinError>,
        devices: &[String],
        bytes: u64,
        helper: Option<&HelperCommand>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            outcome: if result.is_ok() { "pinned" } else { "failed" },
            devices: devices.to_vec(),
            memory_bytes: bytes,
            host: Probe::of_host(helper),
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
    /// With the kernel's names.
    pub(super) fn named(&self) -> [(&'static str, u64); 11] {
        [
            ("pgmigrate_success", self.pgmigrate_success),
            ("pgmigrate_fail", self.pgmigrate_fail),
            ("thp_migration_success", self.thp_migration_success),
            ("thp_migration_fail", self.thp_migration_fail),
            ("thp_migration_split", self.thp_migration_split),
            ("thp_split_page_failed", self.thp_split_page_failed),
            ("thp_file_alloc", self.thp_file_alloc),
            ("thp_file_fallback", self.thp_file_fallback),
            ("compact_stall", self.compact_stall),
            ("allocstall", self.allocstall),
            ("oom_kill", self.oom_kill),
        ]
    }

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
