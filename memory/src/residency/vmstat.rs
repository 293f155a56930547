//! `/proc/vmstat` (mm/vmstat.c): the counters that tell one failed pin from another. All are host-wide.

use std::io;

use crate::text;

/// Values of the counters, or what they grew by (see [`Vmstat::since`]). What the kernel does not print is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vmstat {
    /// Pages moved to another frame.
    pub pgmigrate_success: u64,
    /// Pages that could not be moved.
    pub pgmigrate_fail: u64,
    /// Huge pages moved whole.
    pub thp_migration_success: u64,
    /// Huge pages that could not be moved.
    pub thp_migration_fail: u64,
    /// Huge pages split in order to be moved.
    pub thp_migration_split: u64,
    /// Huge pages split.
    pub thp_split_page: u64,
    /// Huge pages that could not be split.
    pub thp_split_page_failed: u64,
    /// Huge pages allocated for files, memfds among them.
    pub thp_file_alloc: u64,
    /// Huge pages wanted for files that were not to be had.
    pub thp_file_fallback: u64,
    /// Allocations that had to compact memory first.
    pub compact_stall: u64,
    /// Allocations from CMA areas that worked.
    pub cma_alloc_success: u64,
    /// Allocations from CMA areas that failed.
    pub cma_alloc_fail: u64,
    /// Allocations that had to reclaim memory first, over all zones.
    pub allocstall: u64,
    /// Processes killed for lack of memory.
    pub oom_kill: u64,
    /// Pages pinned by get_user_pages. Lags by up to a hundred pages a CPU.
    pub nr_foll_pin_acquired: u64,
    /// Pages unpinned again. Lags likewise.
    pub nr_foll_pin_released: u64,
    /// Pages that are off the LRU lists at this moment, to be moved or reclaimed.
    pub nr_isolated: u64,
}

impl Vmstat {
    /// The host's counters now.
    ///
    /// # Errors
    /// `/proc/vmstat` cannot be read, or is not what the kernel writes there.
    pub fn read() -> io::Result<Self> {
        Self::parse_whole(&text::read("/proc/vmstat")?)
    }

    fn parse_whole(text: &str) -> io::Result<Self> {
        // Every kernel has this one.
        if text.lines().any(|line| line.starts_with("nr_free_pages ")) {
            return Ok(Self::parse(text));
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "/proc/vmstat names no nr_free_pages"))
    }

    /// Reads the counters out of `text`; other lines are ignored.
    pub fn parse(text: &str) -> Self {
        let mut counters = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(' ') else { continue };
            let Ok(value) = value.trim().parse::<u64>() else { continue };
            if let Some(counter) = counters.counter(name) {
                *counter = counter.saturating_add(value);
            }
        }
        counters
    }

    /// How much each counter grew since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            pgmigrate_success: self.pgmigrate_success.saturating_sub(earlier.pgmigrate_success),
            pgmigrate_fail: self.pgmigrate_fail.saturating_sub(earlier.pgmigrate_fail),
            thp_migration_success: self.thp_migration_success.saturating_sub(earlier.thp_migration_success),
            thp_migration_fail: self.thp_migration_fail.saturating_sub(earlier.thp_migration_fail),
            thp_migration_split: self.thp_migration_split.saturating_sub(earlier.thp_migration_split),
            thp_split_page: self.thp_split_page.saturating_sub(earlier.thp_split_page),
            thp_split_page_failed: self.thp_split_page_failed.saturating_sub(earlier.thp_split_page_failed),
            thp_file_alloc: self.thp_file_alloc.saturating_sub(earlier.thp_file_alloc),
            thp_file_fallback: self.thp_file_fallback.saturating_sub(earlier.thp_file_fallback),
            compact_stall: self.compact_stall.saturating_sub(earlier.compact_stall),
            cma_alloc_success: self.cma_alloc_success.saturating_sub(earlier.cma_alloc_success),
            cma_alloc_fail: self.cma_alloc_fail.saturating_sub(earlier.cma_alloc_fail),
            allocstall: self.allocstall.saturating_sub(earlier.allocstall),
            oom_kill: self.oom_kill.saturating_sub(earlier.oom_kill),
            nr_foll_pin_acquired: self.nr_foll_pin_acquired.saturating_sub(earlier.nr_foll_pin_acquired),
            nr_foll_pin_released: self.nr_foll_pin_released.saturating_sub(earlier.nr_foll_pin_released),
            nr_isolated: self.nr_isolated.saturating_sub(earlier.nr_isolated),
        }
    }

    /// Whether pages failed to move, if this is a difference.
    pub fn migration_failed(&self) -> bool {
        self.pgmigrate_fail > 0 || self.thp_migration_fail > 0
    }

    fn counter(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "pgmigrate_success" => &mut self.pgmigrate_success,
            "pgmigrate_fail" => &mut self.pgmigrate_fail,
            "thp_migration_success" => &mut self.thp_migration_success,
            "thp_migration_fail" => &mut self.thp_migration_fail,
            "thp_migration_split" => &mut self.thp_migration_split,
            "thp_split_page" => &mut self.thp_split_page,
            "thp_split_page_failed" => &mut self.thp_split_page_failed,
            "thp_file_alloc" => &mut self.thp_file_alloc,
            "thp_file_fallback" => &mut self.thp_file_fallback,
            "compact_stall" => &mut self.compact_stall,
            "cma_alloc_success" => &mut self.cma_alloc_success,
            "cma_alloc_fail" => &mut self.cma_alloc_fail,
            "oom_kill" => &mut self.oom_kill,
            "nr_foll_pin_acquired" => &mut self.nr_foll_pin_acquired,
            "nr_foll_pin_released" => &mut self.nr_foll_pin_released,
            "nr_isolated_anon" | "nr_isolated_file" => &mut self.nr_isolated,
            _ if name.starts_with("allocstall_") => &mut self.allocstall,
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "vmstat_test.rs"]
mod tests;
