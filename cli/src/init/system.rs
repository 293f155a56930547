//! The guest as the summary sees it: sysfs, procfs and the device nodes, below a root that tests can choose.
//!
//! Every read is bounded and fails softly: what is missing, unreadable or garbled is `None`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most a file of sysfs or procfs may have, in bytes; `/proc/interrupts` of a large guest is the longest
/// read.
const TEXT_MAX: u64 = 4 << 20;

/// Where the guest's file systems are.
#[derive(Debug, Clone)]
pub(super) struct System {
    root: PathBuf,
}

impl System {
    /// The running system.
    pub(super) fn real() -> Self {
        Self::at("/")
    }

    /// A system below another root, as a fixture has it.
    pub(super) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A path of this system, given without leading slash.
    pub(super) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Memory figures of `/proc/meminfo`: total and available, in MiB.
    pub(super) fn memory_mib(&self) -> (Option<u64>, Option<u64>) {
        let text = text(&self.path("proc/meminfo")).unwrap_or_default();
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(value.split_ascii_whitespace().next()?.parse::<u64>().ok()? / 1024)
        };
        (field("MemTotal"), field("MemAvailable"))
    }

    /// How many CPUs are online.
    pub(super) fn cpus_online(&self) -> Option<u64> {
        count_list(&text(&self.path("sys/devices/system/cpu/online"))?)
    }
}

/// Counts the members of a list as sysfs writes it: `0-3,8`.
fn count_list(list: &str) -> Option<u64> {
    let mut count: u64 = 0;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        count = count.checked_add(u64::from(last.checked_sub(first)?) + 1)?;
    }
    Some(count)
}

/// A file's text without the white space around it.
pub(super) fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(TEXT_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A file's hexadecimal number, with or without `0x`.
pub(super) fn hex(path: &Path) -> Option<u32> {
    let text = text(path)?;
    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// Names in a directory, sorted; none if it cannot be read.
pub(super) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// A value for people, `unknown` if there is none.
pub(super) fn or_unknown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

#[cfg(test)]
#[path = "system_test.rs"]
mod tests;
