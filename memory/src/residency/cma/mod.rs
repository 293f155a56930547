//! Where the contiguous memory allocator's areas lie. No single source is always there, so they are asked in turn:
//! debugfs (exact, but for root and CONFIG_CMA_DEBUGFS), then the kernel log and the device tree, together or alone. What
//! they say is believed only if it adds up to CmaTotal.

mod debugfs;
mod device_tree;
pub mod log;

use std::fs;
use std::path::PathBuf;

pub use log::Log;

use super::{Meminfo, PfnRange};
use crate::bytes::Bytes;
use crate::{PAGE_SIZE, text};

/// One CMA area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CmaArea {
    /// The kernel's name for it, or where it starts if only that is known.
    pub name: String,
    /// The frames it manages.
    pub ranges: Vec<PfnRange>,
}

impl CmaArea {
    fn pages(&self) -> u64 {
        self.ranges.iter().map(|r| r.end.saturating_sub(r.start)).fold(0, u64::saturating_add)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: &PfnRange, b: &PfnRange| a.start < b.end && b.start < a.end;
        self.ranges.iter().any(|a| other.ranges.iter().any(|b| meet(a, b)))
    }

    /// In bytes, if it is set aside for huge pages (mm/hugetlb_cma.c).
    pub fn hugetlb(&self) -> Option<u64> {
        is_hugetlb(&self.name).then(|| self.pages().saturating_mul(PAGE_SIZE))
    }
}

/// What is known of the host's CMA areas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CmaAreas {
    /// All of them.
    Known(Vec<CmaArea>),
    /// There are some, but not all could be located.
    Unknown {
        /// Why, for people.
        reason: String,
    },
}

impl CmaAreas {
    /// Asks the host. `meminfo` tells whether there is any and how much.
    pub fn discover(meminfo: &Meminfo) -> Self {
        Sources::default().discover(meminfo)
    }

    /// The areas if all are known, else none.
    pub fn known(&self) -> &[CmaArea] {
        match self {
            Self::Known(areas) => areas,
            Self::Unknown { .. } => &[],
        }
    }
}

/// Where areas are looked for.
#[derive(Clone, Debug)]
pub struct Sources {
    /// A directory for each area, for root alone: where they are.
    pub debugfs: PathBuf,
    /// The kernel log.
    pub kmsg: PathBuf,
    /// The device tree.
    pub device_tree: PathBuf,
    /// The kernel's command line.
    pub cmdline: PathBuf,
    /// A directory for each area, for anyone to read: their names.
    pub sysfs: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            debugfs: "/sys/kernel/debug/cma".into(),
            kmsg: "/dev/kmsg".into(),
            device_tree: "/proc/device-tree".into(),
            cmdline: "/proc/cmdline".into(),
            sysfs: "/sys/kernel/mm/cma".into(),
        }
    }
}

impl Sources {
    /// What they tell together. `meminfo` says whether there is any CMA memory and how much.
    pub fn discover(&self, meminfo: &Meminfo) -> CmaAreas {
        if meminfo.cma_total == 0 {
            return CmaAreas::Known(Vec::new());
        }
        let whole = |areas| complete(areas, meminfo.cma_total);
        let debugfs = match debugfs::areas(&self.debugfs).and_then(whole) {
            Ok(areas) => return CmaAreas::Known(areas),
            Err(reason) => reason,
        };
        let log = Log::read_from(&self.kmsg).map_err(|error| error.to_string());
        let unplaced = log.as_ref().map_or(0, |log| log.unplaced);
        let log = log.map(|log| log.areas);
        let cmdline = text::read(&self.cmdline).unwrap_or_default();
        let tree = device_tree::areas(&self.device_tree, &cmdline);
        // The log may have lost its beginning, and the tree may name areas that were not made.
        if let (Ok(log), Ok(tree)) = (&log, &tree)
            && let Ok(areas) = whole(united(tree, log))
        {
            return CmaAreas::Known(self.named(areas));
        }
        let (log, tree) = match (log.and_then(whole), tree.and_then(whole)) {
            (Ok(areas), _) | (_, Ok(areas)) => return CmaAreas::Known(self.named(areas)),
            (Err(log), Err(tree)) => (log, tree),
        };
        let more = if unplaced > 0 {
            format!(" and {:.1} without its place", Bytes(unplaced))
        } else {
            String::new()
        };
        let reason = format!(
            "CMA areas cannot be located (debugfs: {debugfs}; kernel log: {log}{more}; device tree: {tree})"
        );
        CmaAreas::Unknown { reason }
    }

    /// A single area takes the single name.
    fn named(&self, mut areas: Vec<CmaArea>) -> Vec<CmaArea> {
        let entries = fs::read_dir(&self.sysfs).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        if let ([area], Some(name), None) = (areas.as_mut_slice(), names.next(), names.next()) {
            area.name = name;
        }
        areas
    }
}

/// What of the host's CMA memory is for huge pages, in bytes, as far as `areas` and the kernel log tell.
pub fn hugetlb_bytes(areas: &CmaAreas) -> u64 {
    let named: u64 = areas.known().iter().filter_map(CmaArea::hugetlb).fold(0, u64::saturating_add);
    if named > 0 { named } else { Log::read().map_or(0, |log| log.hugetlb) }
}

/// `hugetlb0` for node 0, and so on.
fn is_hugetlb(name: &str) -> bool {
    let node = name.strip_prefix("hugetlb");
    node.is_some_and(|node| !node.is_empty() && node.bytes().all(|byte| byte.is_ascii_digit()))
}

/// All of `first`, and of `second` what lies elsewhere.
fn united(first: &[CmaArea], second: &[CmaArea]) -> Vec<CmaArea> {
    let elsewhere = |area: &&CmaArea| !first.iter().any(|it| it.overlaps(area));
    first.iter().chain(second.iter().filter(elsewhere)).cloned().collect()
}

/// The areas, if they are all of the host's CMA memory.
fn complete(areas: Vec<CmaArea>, cma_total: u64) -> Result<Vec<CmaArea>, String> {
    let found = areas.iter().map(CmaArea::pages).fold(0, u64::saturating_add).saturating_mul(PAGE_SIZE);
    if found == cma_total {
        Ok(areas)
    } else {
        Err(format!("names {:.1} of {:.1}", Bytes(found), Bytes(cma_total)))
    }
}

#[cfg(test)]
#[path = "mod_test.rs"]
mod tests;
