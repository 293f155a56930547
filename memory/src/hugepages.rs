//! Huge pages that the administrator has set aside (hugetlb, Documentation/admin-guide/mm/hugetlbpage.rst), as what guest RAM
//! may be made of.
//!
//! A pool's pages are the host's spare no longer, so they are counted by themselves. They are pinned no better than others: a
//! pool that is filled while the host runs has pages in CMA areas and ZONE_MOVABLE too, and the kernel does not tell which.

use std::fs::File;
use std::path::Path;
use std::{fs, io};

use miette::Diagnostic;
use thiserror::Error;

use crate::bytes::{Bytes, KIB};
use crate::text;

/// include/uapi/linux/magic.h
const HUGETLBFS_MAGIC: rustix::fs::FsWord = 0x9584_58f6;
const POOLS: &str = "sys/kernel/mm/hugepages";
const MEMINFO: &str = "proc/meminfo";

/// What guest RAM is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// Pages of [`crate::PAGE_SIZE`], which the kernel makes larger ones of where it likes.
    #[default]
    Pages,
    /// Huge pages of a pool.
    HugePages {
        /// The size of one, in bytes: a power of two.
        page: u64,
    },
}

impl Backing {
    /// Huge pages of the size that the host takes by default (`default_hugepagesz=`), if it has any.
    pub fn usual_huge_pages() -> Option<Self> {
        Some(Self::HugePages { page: usual(&text::read(Path::new("/").join(MEMINFO)).ok()?)? })
    }

    /// What a file of guest memory is made of.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let system = rustix::fs::fstatfs(file)?;
        let page = u64::try_from(system.f_bsize).unwrap_or_default();
        Ok(if system.f_type == HUGETLBFS_MAGIC { Self::HugePages { page } } else { Self::Pages })
    }

    /// The size of a huge page of a pool, if it is that.
    pub fn huge_page(self) -> Option<u64> {
        match self {
            Self::Pages => None,
            Self::HugePages { page } => Some(page),
        }
    }

    /// Checks that `bytes` of it can be had on some host.
    ///
    /// # Errors
    /// It is no whole number of pages, or there are no such pages.
    pub fn check(self, bytes: u64) -> Result<(), HugePageError> {
        match self.huge_page() {
            None => Ok(()),
            Some(page) if !page.is_power_of_two() || page < 2 * crate::PAGE_SIZE => {
                Err(HugePageError::Odd { page })
            }
            Some(page) if !bytes.is_multiple_of(page) => Err(HugePageError::Uneven { bytes, page }),
            Some(_) => Ok(()),
        }
    }
}

/// The `Hugepagesize:` line of meminfo, in bytes.
fn usual(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(KIB)
}

/// A pool as it is now, counted in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    /// The size of one, in bytes.
    page: u64,
    total: u64,
    free: u64,
    /// Free, but promised to memory that is mapped.
    reserved: u64,
    /// What the kernel may add when they run out.
    more: u64,
}

impl Pool {
    /// The host's now.
    pub(crate) fn of_host(page: u64) -> Result<Self, HugePageError> {
        Self::read(Path::new("/"), page)
    }

    fn read(root: &Path, page: u64) -> Result<Self, HugePageError> {
        let pools = root.join(POOLS);
        let directory = pools.join(format!("hugepages-{}kB", page / KIB));
        if !directory.is_dir() {
            return Err(HugePageError::NoSuchSize { page, offered: offered(&pools) });
        }
        let figure = |name: &str| {
            let path = directory.join(name);
            let number = |text: String| text.trim().parse::<u64>().map_err(io::Error::other);
            text::read(&path).and_then(number).map_err(|source| HugePageError::Unreadable { source })
        };
        let more = figure("nr_overcommit_hugepages")?.saturating_sub(figure("surplus_hugepages")?);
        let (total, free) = (figure("nr_hugepages")?, figure("free_hugepages")?);
        Ok(Self { page, total, free, reserved: figure("resv_hugepages")?, more })
    }

    /// What it has to give, in pages.
    fn available(&self) -> u64 {
        self.free.saturating_sub(self.reserved).saturating_add(self.more)
    }

    /// The same in bytes.
    pub(crate) fn spare(&self) -> u64 {
        self.available().saturating_mul(self.page)
    }

    /// Checks that it has `bytes` to give.
    pub(crate) fn admit(&self, bytes: u64) -> Result<(), HugePageError> {
        let Self { page, total, reserved, .. } = *self;
        let (need, available) = (bytes.div_ceil(page), self.available());
        if need <= available {
            return Ok(());
        }
        Err(HugePageError::TooFew { page, need, available, total, reserved })
    }
}

/// The sizes that the host has pools of, ascending, in bytes.
fn offered(pools: &Path) -> Vec<u64> {
    let names = fs::read_dir(pools).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let size = |name: std::ffi::OsString| {
        let kib = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?;
        kib.checked_mul(KIB)
    };
    let mut sizes: Vec<u64> = names.filter_map(size).collect();
    sizes.sort_unstable();
    sizes
}

/// Why guest RAM cannot be made of huge pages.
#[derive(Debug, Error, Diagnostic)]
pub enum HugePageError {
    /// No CPU has such pages.
    #[error("there are no huge pages of {} bytes", page)]
    #[diagnostic(help("give --hugepages 2M or --hugepages 1G"))]
    Odd {
        /// Asked for, in bytes.
        page: u64,
    },
    /// Not whole pages.
    #[error("guest memory of {} is not a whole number of huge pages of {}", Bytes(*bytes), Bytes(*page))]
    #[diagnostic(help("give --memory {}, or smaller --hugepages", Bytes(bytes.div_ceil(*page).saturating_mul(*page)).flag()))]
    Uneven {
        /// Guest memory, in bytes.
        bytes: u64,
        /// The size of a page, in bytes.
        page: u64,
    },
    /// The host has no pool of this size.
    #[error("the host has no huge pages of {}{}", Bytes(*page), others(offered))]
    #[diagnostic(help(
        "give a size it has; 1 GiB pages need a CPU that has them (pdpe1gb in /proc/cpuinfo), any a kernel with CONFIG_HUGETLBFS"
    ))]
    NoSuchSize {
        /// Asked for, in bytes.
        page: u64,
        /// What it has, in bytes.
        offered: Vec<u64>,
    },
    /// The pool is too small.
    #[error(
        "guest memory takes {need} huge pages of {}, the pool has {available} to give ({total} in all, {reserved} promised to others)",
        Bytes(*page)
    )]
    #[diagnostic(help(
        "enlarge it (echo {} > /{POOLS}/hugepages-{}kB/nr_hugepages, or at boot hugepagesz={} hugepages={}), stop other guests, or lower --memory",
        total.saturating_add(need.saturating_sub(*available)), page / KIB, Bytes(*page).flag(), total.saturating_add(need.saturating_sub(*available))
    ))]
    TooFew {
        /// The size of a page, in bytes.
        page: u64,
        /// Pages that the guest takes.
        need: u64,
        /// Pages that are free, or may be added, and promised to nobody.
        available: u64,
        /// Pages in the pool.
        total: u64,
        /// Pages that are promised.
        reserved: u64,
    },
    /// The host does not say what it has.
    #[error("cannot read the figures of the pool of huge pages")]
    #[diagnostic(help("/sys must be mounted and readable"))]
    Unreadable {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn others(offered: &[u64]) -> String {
    match offered {
        [] => String::new(),
        sizes => {
            let sizes: Vec<String> = sizes.iter().map(|size| Bytes(*size).to_string()).collect();
            format!(", but of {}", sizes.join(" and "))
        }
    }
}

#[cfg(test)]
#[path = "hugepages_test.rs"]
mod tests;
