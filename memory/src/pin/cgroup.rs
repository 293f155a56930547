//! What the memory limits of cgroups leave (Documentation/admin-guide/cgroup-v2.rst, Memory Interface Files). Guest memory
//! is charged to the cgroup that vmm runs in, and what is pinned can neither be reclaimed nor swapped: a limit that does not
//! suffice would be enforced by the OOM killer. Limits of version 1 are not looked at.

use std::path::Path;

use crate::text;

const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup with a memory limit. Figures are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cgroup {
    /// Where it is below the mount point.
    pub(super) path: String,
    /// `memory.max`.
    pub(super) limit: u64,
    /// What can still be had: the limit less what is used and cannot be reclaimed.
    pub(super) free: u64,
}

impl Cgroup {
    /// Of this process's cgroup and those above it the one with the least to give; none if no limit is to be seen.
    pub(super) fn tightest() -> Option<Self> {
        Self::tightest_in(Path::new(ROOT), &text::read("/proc/self/cgroup").ok()?)
    }

    fn tightest_in(root: &Path, membership: &str) -> Option<Self> {
        let path = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let cgroups = Path::new(path.trim_end()).ancestors();
        cgroups.filter_map(|path| Self::read(root, path)).min_by_key(|cgroup| cgroup.free)
    }

    fn read(root: &Path, path: &Path) -> Option<Self> {
        let file = |name| text::read(root.join(path).join(name)).ok();
        // Without a limit it says `max`.
        let limit: u64 = file("memory.max")?.trim().parse().ok()?;
        let used: u64 = file("memory.current")?.trim().parse().ok()?;
        let stat = file("memory.stat").unwrap_or_default();
        let count = |name| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let reclaimable = count("file ").unwrap_or(0).saturating_sub(count("shmem ").unwrap_or(0));
        let free = limit.saturating_sub(used.saturating_sub(reclaimable));
        Some(Self { path: format!("/{}", path.display()), limit, free })
    }
}

#[cfg(test)]
#[path = "cgroup_test.rs"]
mod tests;
