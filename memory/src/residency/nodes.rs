//! NUMA nodes (Documentation/ABI/stable/sysfs-devices-node): which CPUs they have, and what can be pinned on them. From
//! `/sys/devices/system/node`, as far as this process's cpuset (`Mems_allowed_list` in `/proc/thread-self/status`) lets it
//! allocate there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;

use super::Zones;
use crate::text;

const SYSFS: &str = "/sys/devices/system/node";
/// Nodes of a host at the most (1 << CONFIG_NODES_SHIFT is 1024).
const MAX_NODES: usize = 1024;

/// Numbers as the kernel lists them: `0-3,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdList(Vec<RangeInclusive<u32>>);

impl IdList {
    /// Reads a list; an empty one is blank.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
            (!range.is_empty()).then_some(range)
        };
        text.trim().split(',').map(range).collect::<Option<_>>().map(Self)
    }

    /// Whether `id` is in it.
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|range| range.contains(&id))
    }
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Its CPUs.
    pub cpus: IdList,
    /// Free memory of it that can be pinned, in pages.
    pub free: u64,
    /// All of its memory, in bytes.
    pub total: u64,
}

impl Node {
    /// The nodes on which this thread may allocate, by number. Empty where the kernel has no NUMA, or does not tell.
    pub fn allowed() -> Vec<Self> {
        let status = text::read("/proc/thread-self/status").unwrap_or_default();
        let zones = Zones::read().unwrap_or_default();
        Self::allowed_in(Path::new(SYSFS), &allowed_memory(&status), &zones)
    }

    /// The same as a `/sys/devices/system/node` elsewhere has it.
    pub fn allowed_in(sysfs: &Path, allowed: &IdList, zones: &Zones) -> Vec<Self> {
        let entries = fs::read_dir(sysfs).into_iter().flatten().flatten().take(MAX_NODES);
        let mut nodes: Vec<Self> = entries
            .filter_map(|entry| {
                let id = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
                let cpus = IdList::parse(&text::read(entry.path().join("cpulist")).ok()?)?;
                let total = total(&text::read(entry.path().join("meminfo")).unwrap_or_default());
                allowed.contains(id).then(|| Self { id, cpus, free: zones.free_pinnable(id), total })
            })
            .collect();
        nodes.sort_unstable_by_key(|node| node.id);
        nodes
    }
}

/// `Node 0 MemTotal:   3047424 kB`, in bytes; 0 where it does not say.
fn total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.split_once("MemTotal:"));
    let kib = line.and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Everywhere, where the kernel has no cpusets.
fn allowed_memory(status: &str) -> IdList {
    let list = status.lines().find_map(|line| line.strip_prefix("Mems_allowed_list:"));
    list.and_then(IdList::parse).unwrap_or(IdList(vec![0..=u32::MAX]))
}

/// Whether somebody has chosen the nodes that this process allocates from (set_mempolicy, as numactl does it).
///
/// # Errors
/// `/proc/thread-self/numa_maps` cannot be read.
pub fn has_policy() -> io::Result<bool> {
    // The first mapping, that of the executable, has the policy of the process.
    let mut first = Vec::new();
    File::open("/proc/thread-self/numa_maps")?.take(4096).read_to_end(&mut first)?;
    Ok(is_policy(&String::from_utf8_lossy(&first)))
}

/// `00400000 default file=/bin/busybox ..`; `local` is what default comes to.
fn is_policy(numa_maps: &str) -> bool {
    let policy = numa_maps.lines().next().and_then(|line| line.split_whitespace().nth(1));
    policy.is_some_and(|policy| !matches!(policy, "default" | "local"))
}

#[cfg(test)]
#[path = "nodes_test.rs"]
mod tests;
