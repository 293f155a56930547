//! What root can do about a part of memory that cannot be moved, where the operator allows it (`--pin-root-help`).
//!
//! - **compact** (Documentation/admin-guide/sysctl/vm.rst, `compact_memory`): a huge page can only be moved whole if there
//!   is a free one. Where there is none, compaction makes some, at the cost of seconds of the host's time, so it is done
//!   once at the most. It empties the CPUs' lists of pages on the way, which hold references too.
//! - **split** (mm/huge_memory.c, `split_huge_pages`): the part's huge pages are split, so that its pages move one by one, and
//!   one that is busy holds up itself alone. The guest loses a huge page for good.
//!
//! Neither is of use for memory without huge pages. Left out on purpose: drop_caches takes references on the very pages
//! that are to move; soft-offlining takes good frames from the host; allocating CMA areas to evict others' pages starves
//! those the areas are for, and the pages of a part that is busy would not leave either.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use miette::Diagnostic;
use thiserror::Error;

use super::mapper::Chunk;
use crate::residency::pagetypes::free_huge_pages;
use crate::{ram, text};

const COMPACT: &str = "proc/sys/vm/compact_memory";
const SPLIT: &str = "sys/kernel/debug/split_huge_pages";
const PAGE_TYPES: &str = "proc/pagetypeinfo";
const SHMEM_ENABLED: &str = "sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// One of root's means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootHelp {
    /// Compact the host's memory if it has no free huge page.
    Compact,
    /// Split huge pages that cannot be moved.
    Split,
}

impl RootHelp {
    fn file(self) -> &'static str {
        match self {
            Self::Compact => COMPACT,
            Self::Split => SPLIT,
        }
    }
}

/// The means that a bring-up may use.
#[derive(Debug)]
pub struct RootHelper {
    means: Vec<RootHelp>,
    root: PathBuf,
    compacted: AtomicBool,
}

impl RootHelper {
    /// On this host.
    pub fn new(means: &[RootHelp]) -> Self {
        Self::below("/", means)
    }

    fn below(root: impl Into<PathBuf>, means: &[RootHelp]) -> Self {
        Self { means: means.to_vec(), root: root.into(), compacted: AtomicBool::new(false) }
    }

    /// Whether all of them can be used here. Empty if so, else all that is wrong.
    pub fn check(&self) -> Vec<HelpError> {
        let closed = |means: &RootHelp| {
            let path = self.root.join(means.file());
            let opened = OpenOptions::new().write(true).open(&path);
            opened.err().map(|source| HelpError { path, source })
        };
        self.means.iter().filter_map(closed).collect()
    }

    /// Does for `culprit`, a mapped part of guest memory, what is left to do; pinning it may be tried again then. Without
    /// means, or without huge pages, that is nothing.
    ///
    /// # Errors
    /// One of the means failed; the others were used all the same.
    pub fn help(&self, culprit: &Chunk) -> Result<(), HelpError> {
        if self.means.is_empty() || !self.has_huge_pages() {
            return Ok(());
        }
        let results: Vec<_> = self.means.iter().map(|means| self.apply(*means, culprit)).collect();
        results.into_iter().collect()
    }

    fn apply(&self, means: RootHelp, culprit: &Chunk) -> Result<(), HelpError> {
        match means {
            RootHelp::Compact => {
                let free = free_huge_pages(&self.root.join(PAGE_TYPES)).unwrap_or(0);
                if free > 0 || self.compacted.swap(true, Ordering::Relaxed) {
                    return Ok(());
                }
                tracing::info!("compacting the host's memory, it has no free huge page");
                self.write(COMPACT, "1")
            }
            RootHelp::Split => {
                let Chunk { guest, hva, .. } = culprit;
                // The kernel looks for the pages in our page tables.
                if let Err(error) = ram::show(*hva, guest.size) {
                    tracing::debug!(%error, %guest, "entering guest pages into the page tables");
                }
                tracing::info!(%guest, "splitting huge pages that cannot be moved");
                let end = hva.saturating_add(guest.size);
                self.write(SPLIT, &format!("{},{hva:#x},{end:#x}", std::process::id()))
            }
        }
    }

    /// Whether guest memory may have huge pages: `always within_size [advise] never deny force`.
    fn has_huge_pages(&self) -> bool {
        let text = text::read(self.root.join(SHMEM_ENABLED)).unwrap_or_default();
        let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        chosen.is_some_and(|(chosen, _)| !matches!(chosen, "never" | "deny"))
    }

    fn write(&self, path: &str, line: &str) -> Result<(), HelpError> {
        let path = self.root.join(path);
        write_line(&path, line).map_err(|source| HelpError { path, source })
    }
}

fn write_line(path: &Path, line: &str) -> io::Result<()> {
    // The kernel takes a line in one write.
    OpenOptions::new().write(true).open(path)?.write_all(line.as_bytes())
}

/// One of root's means that cannot be used.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot write to {}", path.display())]
#[diagnostic(help(
    "--pin-root-help needs root; `split` also debugfs (mount -t debugfs none /sys/kernel/debug) and huge pages in the kernel"
))]
pub struct HelpError {
    /// Its file.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

#[cfg(test)]
#[path = "escalate_test.rs"]
mod tests;
