//! CMA areas in the kernel log (Documentation/ABI/testing/dev-kmsg; mm/cma.c, mm/hugetlb_cma.c, kernel/dma/contiguous.c,
//! drivers/of/of_reserved_mem.c). Good until the ring buffer wraps, and for those whom `kernel.dmesg_restrict` lets read it.
//!
//! | message | kernels |
//! |---|---|
//! | `cma: Reserved 900 MiB at 0x0000000100000000` | all; ` on node 0` follows in some |
//! | `cma: Reserved 8192 MiB in 2 ranges` | 6.15 and later, for `hugetlb_cma=`: the place is not told |
//! | `hugetlb_cma: reserved 4096 MiB on node 0` | all; ` (25%)` before ` on` in some |
//! | `Reserved memory: created CMA memory pool at 0x000000003ec00000, size 16 MiB` | all, of the device tree |
//! | `OF: reserved mem: 0x000000003ec00000..0x000000003fbfffff (16384 KiB) map reusable linux,cma` | 6.4 and later: the name |

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::CmaArea;
use crate::PAGE_SIZE;
use crate::bytes::MIB;

const KMSG: &str = "/dev/kmsg";
/// More than any kernel log holds.
const MAX_RECORDS: usize = 1 << 18;
/// Longer than any record of it (PRINTK_MESSAGE_MAX).
const RECORD_SIZE: usize = 8192;
/// What is kept of it at the most, in bytes.
const MAX_KEPT: usize = 1 << 20;
/// What a message of interest has in it.
const WORDS: [&str; 3] = ["cma: ", "created CMA memory pool", "reserved mem: "];

/// What the kernel log tells of CMA areas. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Those it tells the place of.
    pub areas: Vec<CmaArea>,
    /// Size of those it does not tell the place of, since they lie in several ranges.
    pub unplaced: u64,
    /// What is set aside for huge pages; also among the above.
    pub hugetlb: u64,
}

impl Log {
    /// That of the host.
    ///
    /// # Errors
    /// It cannot be read, most often for lack of CAP_SYSLOG.
    pub fn read() -> io::Result<Self> {
        Self::read_from(Path::new(KMSG))
    }

    pub(super) fn read_from(path: &Path) -> io::Result<Self> {
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let mut log = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        Ok(Self::parse(&relevant(&mut log)))
    }

    /// What lines of `/dev/kmsg` or of `dmesg` tell.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        let mut names = Vec::new();
        for message in text.lines().filter_map(kernel_message) {
            match Message::parse(message) {
                Some(Message::Area { start, size }) => log.add(start, size),
                Some(Message::Ranges(size)) => log.unplaced = log.unplaced.saturating_add(size),
                Some(Message::Hugetlb(size)) => log.hugetlb = log.hugetlb.saturating_add(size),
                Some(Message::Name { start, name }) => names.push((start, name)),
                None => (),
            }
        }
        for (start, name) in names {
            let here = |area: &&mut CmaArea| {
                area.ranges.first().is_some_and(|range| range.start == start / PAGE_SIZE)
            };
            if let Some(area) = log.areas.iter_mut().find(here) {
                area.name = name.to_owned();
            }
        }
        log
    }

    fn add(&mut self, start: u64, size: u64) {
        let pfns = start / PAGE_SIZE..start.saturating_add(size) / PAGE_SIZE;
        if !self.areas.iter().any(|area| area.ranges.contains(&pfns)) {
            self.areas.push(CmaArea { name: format!("cma@{start:#x}"), ranges: vec![pfns] });
        }
    }
}

/// Messages that may tell something. Each read of `/dev/kmsg` returns one record; the last is followed by EAGAIN.
fn relevant(log: &mut impl Read) -> String {
    let mut text = String::new();
    let mut record = [0; RECORD_SIZE];
    for _ in 0..MAX_RECORDS {
        let length = match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => length,
            // The record was overwritten before we came to it; the next read goes on after it.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let record = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
        if WORDS.iter().any(|word| record.contains(word)) {
            text += &record;
        }
        if text.len() > MAX_KEPT {
            break;
        }
    }
    text
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

#[derive(Debug, PartialEq, Eq)]
enum Message<'a> {
    Area { start: u64, size: u64 },
    Ranges(u64),
    Hugetlb(u64),
    Name { start: u64, name: &'a str },
}

impl<'a> Message<'a> {
    fn parse(message: &'a str) -> Option<Self> {
        if let Some((_, rest)) = message.split_once("hugetlb_cma: reserved ") {
            return mebibytes(rest.split_once(" MiB")?.0).map(Self::Hugetlb);
        }
        if let Some((_, rest)) = message.split_once("reserved mem: ") {
            let (start, rest) = rest.split_once("..")?;
            let name = rest.split_once(" map reusable ")?.1.trim();
            return Some(Self::Name { start: address(start)?, name });
        }
        if let Some((_, rest)) = message.split_once("created CMA memory pool at ") {
            let (start, size) = rest.split_once(", size ")?;
            return Self::area(address(start)?, mebibytes(size.split_whitespace().next()?)?);
        }
        let (size, rest) = message.split_once("cma: Reserved ")?.1.split_once(" MiB ")?;
        let size = mebibytes(size)?;
        match rest.split_once(' ')? {
            ("at", rest) => Self::area(address(rest.split_whitespace().next()?)?, size),
            ("in", _) => Some(Self::Ranges(size)),
            _ => None,
        }
    }

    fn area(start: u64, size: u64) -> Option<Self> {
        (size > 0 && start.checked_add(size).is_some()).then_some(Self::Area { start, size })
    }
}

fn mebibytes(text: &str) -> Option<u64> {
    text.trim().parse::<u64>().ok()?.checked_mul(MIB)
}

/// As `%pa` prints it.
fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
#[path = "log_test.rs"]
mod tests;
