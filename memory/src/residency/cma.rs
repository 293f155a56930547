//! Where the contiguous memory allocator's areas lie. No single source is always there, so they are asked in turn:
//! debugfs (mm/cma_debug.c: exact, root, CONFIG_CMA_DEBUGFS), then the kernel log (mm/cma.c: "cma: Reserved ..").
//! What they say is believed only if it adds up to CmaTotal.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Meminfo, PfnRange};
use crate::PAGE_SIZE;
use crate::bytes::{Bytes, MIB};

const DEBUGFS: &str = "/sys/kernel/debug/cma";
const SYSFS: &str = "/sys/kernel/mm/cma";
const KMSG: &str = "/dev/kmsg";
/// More than any kernel log holds.
const MAX_RECORDS: usize = 1 << 18;
/// Longer than any record of it (CONSOLE_EXT_LOG_MAX).
const RECORD_SIZE: usize = 8192;

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
        self.ranges.iter().map(|r| r.end.saturating_sub(r.start)).sum()
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
        Self::discover_in(meminfo, Path::new(DEBUGFS), Path::new(KMSG), &sysfs_names(Path::new(SYSFS)))
    }

    /// The areas if all are known, else none.
    pub fn known(&self) -> &[CmaArea] {
        match self {
            Self::Known(areas) => areas,
            Self::Unknown { .. } => &[],
        }
    }

    fn discover_in(meminfo: &Meminfo, debugfs: &Path, kmsg: &Path, names: &[String]) -> Self {
        if meminfo.cma_total == 0 {
            return Self::Known(Vec::new());
        }
        let whole = |areas| complete(areas, meminfo.cma_total);
        let known = from_debugfs(debugfs).and_then(whole).or_else(|debugfs| {
            from_kmsg(kmsg, names)
                .and_then(whole)
                .map_err(|log| format!("CMA areas cannot be located (debugfs: {debugfs}; kernel log: {log})"))
        });
        known.map_or_else(|reason| Self::Unknown { reason }, Self::Known)
    }
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

fn from_debugfs(root: &Path) -> Result<Vec<CmaArea>, String> {
    let entries = fs::read_dir(root).map_err(|e| e.to_string())?;
    entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            debugfs_ranges(&entry.path())
                .map(|ranges| CmaArea { name: name.clone(), ranges })
                .ok_or_else(|| format!("area {name} is not understood"))
        })
        .collect()
}

/// Before 6.15 an area is one range and says so itself; since then there is a directory for each range, which gives
/// its first frame and its bitmap but not its size.
fn debugfs_ranges(area: &Path) -> Option<Vec<PfnRange>> {
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let count = number(&area.join("count"))?;
    let range = |base: u64, pages: u64| Some(base..base.checked_add(pages)?);
    let Ok(entries) = fs::read_dir(area.join("ranges")) else {
        return Some(vec![range(number(&area.join("base_pfn"))?, count)?]);
    };
    let directories: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    if let [only] = directories.as_slice() {
        return Some(vec![range(number(&only.join("base_pfn"))?, count)?]);
    }
    let order = number(&area.join("order_per_bit"))?;
    let mut ranges = directories
        .iter()
        .map(|directory| {
            let bits = bitmap_bits(&fs::read_to_string(directory.join("bitmap")).ok()?);
            let pages = bits.checked_shl(u32::try_from(order).ok()?)?;
            range(number(&directory.join("base_pfn"))?, pages)
        })
        .collect::<Option<Vec<_>>>()?;
    ranges.sort_unstable_by_key(|r| r.start);
    Some(ranges)
}

/// Bits in a bitmap as debugfs prints it, an array of 32-bit words.
fn bitmap_bits(text: &str) -> u64 {
    text.split_whitespace().count() as u64 * 32
}

/// Names of the areas, for anyone to read.
fn sysfs_names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn from_kmsg(path: &Path, names: &[String]) -> Result<Vec<CmaArea>, String> {
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|e| e.to_string())?;
    Ok(parse_log(&read_log(&mut log), names))
}

/// The records of the kernel itself, one a line. Each read returns one record; the last is followed by EAGAIN.
fn read_log(log: &mut File) -> String {
    let mut text = String::new();
    let mut record = [0; RECORD_SIZE];
    for _ in 0..MAX_RECORDS {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(n) => text.push_str(&String::from_utf8_lossy(record.get(..n).unwrap_or_default())),
            // The record was overwritten before we came to it; the next read goes on after it.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => (),
            Err(_) => break,
        }
    }
    text
}

/// The areas a kernel log tells of: lines of `/dev/kmsg` or of `dmesg`. A single area takes the single name.
pub fn parse_log(text: &str, names: &[String]) -> Vec<CmaArea> {
    let mut areas: Vec<CmaArea> = Vec::new();
    for (start, size) in text.lines().filter_map(kernel_message).filter_map(parse_reservation) {
        let pfns = start / PAGE_SIZE..start.saturating_add(size) / PAGE_SIZE;
        if !areas.iter().any(|area| area.ranges.contains(&pfns)) {
            areas.push(CmaArea { name: format!("cma@{start:#x}"), ranges: vec![pfns] });
        }
    }
    if let ([area], [name]) = (areas.as_mut_slice(), names) {
        area.name = name.clone();
    }
    areas
}

/// The text of a record, unless user space wrote it (its facility is then not 0).
fn kernel_message(line: &str) -> Option<&str> {
    let Some((header, message)) = line.split_once(';') else { return Some(line) };
    match header.split(',').next().and_then(|prefix| prefix.parse::<u32>().ok()) {
        Some(prefix) if prefix >> 3 == 0 => Some(message),
        Some(_) => None,
        None => Some(line),
    }
}

/// First byte and size of the area a message reserves:
/// `cma: Reserved 900 MiB at 0x0000000100000000`, on some kernels with ` on node 0` behind it, and for areas of the device tree
/// `Reserved memory: created CMA memory pool at 0x000000003ec00000, size 16 MiB`.
fn parse_reservation(message: &str) -> Option<(u64, u64)> {
    let (size, start) = if let Some((_, rest)) = message.split_once("cma: Reserved ") {
        rest.split_once(" MiB at ")?
    } else {
        let (_, rest) = message.split_once("Reserved memory: created CMA memory pool at ")?;
        let (start, size) = rest.split_once(", size ")?;
        (size.split_whitespace().next()?, start)
    };
    let start = start.split_whitespace().next()?.strip_prefix("0x")?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let size = size.trim().parse::<u64>().ok()?.checked_mul(MIB)?;
    (size > 0 && start.checked_add(size).is_some()).then_some((start, size))
}

#[cfg(test)]
#[path = "cma_test.rs"]
mod tests;
