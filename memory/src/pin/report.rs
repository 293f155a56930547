//! What a bring-up did.

use std::fmt::Write;
use std::time::Duration;

use super::mapper::Chunk;
use crate::bytes::Bytes;
use crate::residency::{Basis, Census, Vmstat};

/// What faulted the pages in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialKind {
    /// Trial pins held by io_uring.
    IoUring,
    /// The DMA map itself, for part of the memory at least.
    DmaMap {
        /// Why there was no trial pin.
        reason: String,
    },
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
    /// Where its pages lie.
    pub census: Census,
    /// What the host's counters grew by meanwhile, if they could be read.
    pub counters: Option<Vmstat>,
    /// Attempts that were refused and made again.
    pub retries: u64,
    /// From the first pin to the last, the census included.
    pub elapsed: Duration,
    /// What faulted the pages in.
    pub trial: TrialKind,
}

impl PinReport {
    /// Pages moved meanwhile, host-wide.
    pub fn migrated(&self) -> Option<u64> {
        self.counters.map(|counters| counters.pgmigrate_success)
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
        let census = &self.census;
        write!(line, "{} pages, ", self.pages)?;
        match &census.basis {
            Basis::Pfn | Basis::NothingMovable => {
                write!(line, "{} in CMA, {} in ZONE_MOVABLE, ", census.in_cma(), census.movable)?;
            }
            Basis::CmaFreeEstimate { reason } => {
                let (cma, movable) = (census.in_cma(), census.movable);
                write!(
                    line,
                    "residency unknown: {reason} (estimate {cma} in CMA, {movable} in ZONE_MOVABLE), "
                )?;
            }
        }
        if census.absent > 0 {
            write!(line, "{} not faulted in, ", census.absent)?;
        }
        match self.migrated() {
            Some(pages) => write!(line, "{pages} migrated, ")?,
            None => line.push_str("migrations unknown, "),
        }
        write!(line, "{} ms", self.elapsed.as_millis())
    }
}

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
