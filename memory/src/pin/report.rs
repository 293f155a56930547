//! What a bring-up did, for people; [`super::record`] has it for programs.

use std::fmt::Write;
use std::time::Duration;

use super::mapper::Chunk;
use super::trial::Pinner;
use crate::GuestRange;
use crate::bytes::Bytes;
use crate::residency::{Basis, Census, Vmstat};

/// Culprits that are logged one by one.
pub(super) const LOGGED: usize = 64;

/// What pinned the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// Who held trial pins, best first.
    pub pinners: Vec<Pinner>,
    /// What the DMA map itself had to pin, in bytes.
    pub bare: u64,
    /// Why better means were not used.
    pub passed_over: Vec<String>,
}

impl Means {
    pub(super) fn add(&mut self, pinner: Option<Pinner>, bytes: u64, passed_over: Vec<String>) {
        match pinner {
            Some(pinner) if !self.pinners.contains(&pinner) => self.pinners.push(pinner),
            Some(_) => (),
            None => self.bare += bytes,
        }
        self.pinners.sort_unstable();
        for reason in passed_over {
            if !self.passed_over.contains(&reason) {
                self.passed_over.push(reason);
            }
        }
    }
}

/// A part of RAM that could not be pinned at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Where it lies.
    pub guest: GuestRange,
    /// How often it was refused by itself.
    pub refusals: u32,
    /// Whether its pages were replaced; else whoever held them let go.
    pub replaced: bool,
}

/// How long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// For other starts on this host.
    pub waited: Duration,
    /// Populating RAM.
    pub populating: Duration,
    /// From the first pin to the last, the census included.
    pub pinning: Duration,
}

impl Times {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.waited + self.populating + self.pinning
    }
}

/// Guest memory that was pinned.
#[derive(Clone, Debug)]
pub struct PinReport {
    /// All of it, in bytes.
    pub bytes: u64,
    /// All of it, in pages.
    pub pages: u64,
    /// What is mapped for the devices, in the pieces in which it has to be unmapped.
    pub mapped: Vec<Chunk>,
    /// Where its pages lay before, if some existed and were counted.
    pub found: Option<Census>,
    /// Where its pages lie, if they were counted.
    pub census: Option<Census>,
    /// What the host's counters grew by meanwhile, if they could be read.
    pub counters: Option<Vmstat>,
    /// Attempts that were refused and made again.
    pub retries: u64,
    /// What was refused, by ascending address.
    pub culprits: Vec<Culprit>,
    /// What pinned it.
    pub means: Means,
    /// What was to be allocated on each NUMA node, in bytes; empty where there was nothing to choose.
    pub nodes: Vec<(u32, u64)>,
    /// How long it took.
    pub times: Times,
}

impl PinReport {
    /// Pages moved meanwhile, host-wide.
    pub fn migrated(&self) -> Option<u64> {
        self.counters.map(|counters| counters.pgmigrate_success)
    }

    /// Pages that are known to lie in CMA or ZONE_MOVABLE all the same. Always 0 from Linux 5.13 on; kernels before
    /// pin there without a word when a page cannot be moved.
    pub fn misplaced(&self) -> u64 {
        let exact = self.census.as_ref().filter(|census| census.basis == Basis::Pfn);
        exact.map_or(0, |census| census.in_cma() + census.movable)
    }

    /// One line for the operator:
    /// `pinned 512 MiB for 0000:00:01.0: 131072 pages, 0 in CMA, 0 in ZONE_MOVABLE, 0 migrated, 214 ms`.
    pub fn line(&self, devices: &[&str]) -> String {
        let mut line = match devices {
            [] => format!("faulted in {}: ", Bytes(self.bytes)),
            _ => format!("pinned {} for {}: ", Bytes(self.bytes), devices.join(", ")),
        };
        // Writing to a String cannot fail.
        let _ = self.write_residency(&mut line);
        line
    }

    fn write_residency(&self, line: &mut String) -> std::fmt::Result {
        write!(line, "{} pages, ", self.pages)?;
        if let Some(found) = self.found.as_ref().filter(|found| found.is_exact()) {
            write!(line, "found {} in CMA, {} in ZONE_MOVABLE, now ", found.in_cma(), found.movable)?;
        }
        match &self.census {
            None => line.push_str("residency not looked at, "),
            Some(census) => write_census(line, census)?,
        }
        match self.migrated() {
            Some(pages) => write!(line, "{pages} migrated, ")?,
            None => line.push_str("migrations unknown, "),
        }
        if self.retries > 0 {
            write!(line, "{} retries, ", self.retries)?;
        }
        let replaced = self.culprits.iter().filter(|culprit| culprit.replaced).count();
        if replaced > 0 {
            write!(line, "{replaced} x 2 MiB replaced, ")?;
        }
        write!(line, "{} ms", self.times.total().as_millis())
    }

    /// Tells the log what was out of the ordinary.
    pub(super) fn note(&self) {
        let Means { bare, passed_over, .. } = &self.means;
        if *bare > 0 {
            let reason = passed_over.join("; ");
            tracing::warn!(reason, "no trial pins, the DMA map itself pins guest memory");
        }
        if self.misplaced() > 0 {
            tracing::error!(
                pages = self.misplaced(),
                "pinned pages lie in CMA or ZONE_MOVABLE: this kernel pins there"
            );
        }
        for Culprit { guest, refusals, replaced } in self.culprits.iter().take(LOGGED) {
            tracing::info!(%guest, refusals, replaced, "a culprit, pinned in the end");
        }
        tracing::info!(
            bytes = self.bytes,
            retries = self.retries,
            culprits = self.culprits.len(),
            migrated = self.migrated(),
            ms = self.times.total().as_millis() as u64,
            "guest memory is up"
        );
    }
}

fn write_census(line: &mut String, census: &Census) -> std::fmt::Result {
    let (cma, movable) = (census.in_cma(), census.movable);
    match &census.basis {
        Basis::Pfn | Basis::NothingMovable => write!(line, "{cma} in CMA, {movable} in ZONE_MOVABLE, ")?,
        Basis::CmaFreeEstimate { reason } => {
            write!(line, "residency unknown: {reason} (estimate {cma} in CMA, {movable} in ZONE_MOVABLE), ")?;
        }
    }
    if census.absent > 0 {
        write!(line, "{} not faulted in, ", census.absent)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
