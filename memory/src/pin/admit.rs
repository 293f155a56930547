//! Admission: refuse, with figures, what cannot work, before anything is allocated. A guest that does not fit would
//! otherwise be found out by the OOM killer.

use std::time::{Duration, Instant};
use std::{io, thread};

use miette::Diagnostic;
use thiserror::Error;

use super::cgroup::Cgroup;
use super::helper;
use super::privilege::Memlock;
use crate::bytes::{Bytes, MIB};
use crate::hugepages::{Backing, HugePageError, Pool};
use crate::residency::{Meminfo, Zones};
use crate::{GuestRam, PAGE_SIZE, PluggedMemory};

/// Kernel memory spent on pinning a guest, as a share of its size: page tables here and in the IOMMU, and the
/// arrays of the trial pins, together under 4 MiB a GiB.
const OVERHEAD_SHARE: u64 = 256;

/// How often it is looked whether memory is being freed.
const TICK: Duration = Duration::from_millis(100);
/// How long it is waited for: at least, and at most while it is being freed.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Less than this in a look is not freeing, but noise.
const FREEING: u64 = 4 * MIB;

/// Checks that `bytes` of guest memory can be pinned on this host. Empty if so, else all that is wrong. While it does not
/// fit but memory is being freed, as after a guest that has just been killed, it waits a little.
pub fn admit(bytes: u64, backing: Backing) -> Vec<AdmitError> {
    wait_for(|| Look::pinned(bytes, backing))
}

/// Looks again as long as it may help.
fn wait_for(look: impl FnMut() -> Look) -> Vec<AdmitError> {
    let started = Instant::now();
    patient(look, |freeing| {
        let waited = started.elapsed();
        let wait = waited < PATIENCE.0 || waited < PATIENCE.1 && (freeing || helper::are_around());
        if wait {
            thread::sleep(TICK);
        }
        wait
    })
}

/// What a look at the host shows of a guest.
struct Look {
    /// What is wrong.
    errors: Vec<AdmitError>,
    /// What the host could give, in bytes.
    spare: u64,
}

impl Look {
    fn pinned(bytes: u64, backing: Backing) -> Self {
        let Some(page) = backing.huge_page() else {
            return HostMemory::read().map_or_else(Self::failed, |host| Self::at(&host, bytes));
        };
        let mut look = Self::pool(bytes, page);
        look.errors.extend(Memlock::read().short(bytes));
        look
    }

    fn pool(bytes: u64, page: u64) -> Self {
        let (short, spare) = match Pool::of_host(page) {
            Ok(pool) => (pool.admit(bytes).err(), pool.spare()),
            Err(error) => (Some(error), 0),
        };
        Self { errors: short.map(AdmitError::from).into_iter().collect(), spare }
    }

    fn at(host: &HostMemory, bytes: u64) -> Self {
        Self { errors: host.admit(bytes), spare: host.pinnable() }
    }

    fn failed(source: io::Error) -> Self {
        Self { errors: vec![AdmitError::Unreadable { source }], spare: 0 }
    }
}

/// Looks again after `wait`, for as long as that says so. It is told whether memory is being freed.
fn patient(mut look: impl FnMut() -> Look, mut wait: impl FnMut(bool) -> bool) -> Vec<AdmitError> {
    let mut before = u64::MAX;
    loop {
        let Look { errors, spare } = look();
        let freeing = spare >= before.saturating_add(FREEING);
        let may_pass = errors.iter().all(AdmitError::may_pass);
        if errors.is_empty() || !may_pass || !wait(freeing) {
            return errors;
        }
        before = spare;
    }
}

/// Checks that the host could ever hold `bytes` of guest memory that is not pinned; of huge pages, that it can now.
pub fn admit_unpinned(bytes: u64, backing: Backing) -> Vec<AdmitError> {
    if let Some(page) = backing.huge_page() {
        return wait_for(|| Look::pool(bytes, page));
    }
    match Meminfo::read() {
        Ok(meminfo) => exceeded(bytes, meminfo.total.saturating_add(meminfo.swap_free)).into_iter().collect(),
        Err(source) => vec![AdmitError::Unreadable { source }],
    }
}

/// Checks that what of `ram` has no pages yet can be pinned. Huge pages are promised already.
pub(super) fn admit_rest(ram: &GuestRam) -> Vec<AdmitError> {
    match ram.backing() {
        Backing::Pages => admit(ram.size().saturating_sub(ram.allocated()), Backing::Pages),
        Backing::HugePages { .. } => Memlock::read().short(ram.size()).into_iter().collect(),
    }
}

/// Checks that `bytes` more can be pinned than `ram` has from the start, and plugged in.
pub(super) fn admit_more(ram: &GuestRam, bytes: u64) -> Vec<AdmitError> {
    let plugged = ram.pluggable().map_or(0, PluggedMemory::size);
    let all = ram.size().saturating_add(plugged).saturating_add(bytes);
    admit(bytes, ram.backing()).into_iter().chain(Memlock::read().short(all)).collect()
}

/// Memory that could be pinned and is free or can be freed, in bytes.
///
/// # Errors
/// The host does not say.
pub(super) fn pinnable() -> io::Result<u64> {
    HostMemory::read().map(|host| host.pinnable())
}

/// What the host has to give.
#[derive(Clone, Debug)]
struct HostMemory {
    meminfo: Meminfo,
    movable_free: u64,
    memlock: Memlock,
    cgroup: Option<Cgroup>,
}

impl HostMemory {
    fn read() -> io::Result<Self> {
        let movable_free = Zones::read()?.free_movable().saturating_mul(PAGE_SIZE);
        let (memlock, cgroup) = (Memlock::read(), Cgroup::tightest());
        Ok(Self { meminfo: Meminfo::read()?, movable_free, memlock, cgroup })
    }

    fn admit(&self, bytes: u64) -> Vec<AdmitError> {
        let memory = exceeded(bytes, self.meminfo.total).or_else(|| self.short(bytes));
        memory.into_iter().chain(self.over_limit(bytes)).chain(self.memlock.short(bytes)).collect()
    }

    /// What the host has, and the cgroup allows.
    fn pinnable(&self) -> u64 {
        self.cgroup.as_ref().map_or(u64::MAX, |cgroup| cgroup.free).min(self.outside_cma())
    }

    fn outside_cma(&self) -> u64 {
        let Meminfo { available, cma_free, .. } = self.meminfo;
        available.saturating_sub(cma_free).saturating_sub(self.movable_free)
    }

    fn short(&self, bytes: u64) -> Option<AdmitError> {
        let (cma_free, movable_free, pinnable) =
            (self.meminfo.cma_free, self.movable_free, self.outside_cma());
        let need = needed(bytes);
        (need > pinnable).then_some(AdmitError::NotEnough { need, pinnable, cma_free, movable_free })
    }

    fn over_limit(&self, bytes: u64) -> Option<AdmitError> {
        let Cgroup { path, limit, free } = self.cgroup.clone()?;
        let need = needed(bytes);
        (need > free).then_some(AdmitError::OverLimit { need, path, limit, free })
    }
}

impl Memlock {
    /// What is wrong with it for a guest of `bytes`.
    fn short(&self, bytes: u64) -> Option<AdmitError> {
        let have = self.limit.filter(|_| !self.allows(bytes))?;
        Some(AdmitError::MemlockTooLow { need: bytes, have })
    }
}

fn exceeded(need: u64, total: u64) -> Option<AdmitError> {
    (need > total).then_some(AdmitError::ExceedsHost { need, total })
}

/// With what the kernel spends on it.
fn needed(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / OVERHEAD_SHARE)
}

/// Why a guest is not admitted. All figures are in bytes.
#[derive(Debug, Error, Diagnostic)]
pub enum AdmitError {
    /// More than the host has at all.
    #[error("guest memory of {} exceeds the host's {:.1}", Bytes(*need), Bytes(*total))]
    #[diagnostic(help("lower --memory"))]
    ExceedsHost {
        /// Guest memory.
        need: u64,
        /// What the host has.
        total: u64,
    },
    /// More than can be pinned now.
    #[error(
        "pinning the guest needs {:.1}, the host has {:.1} (free CMA {:.1} and ZONE_MOVABLE {:.1} cannot be pinned)",
        Bytes(*need), Bytes(*pinnable), Bytes(*cma_free), Bytes(*movable_free)
    )]
    #[diagnostic(help(
        "lower --memory, stop other guests, or shrink the CMA areas (kernel parameters cma=, hugetlb_cma=, movablecore=)"
    ))]
    NotEnough {
        /// Guest memory and what the kernel spends on pinning it.
        need: u64,
        /// Available memory outside CMA and ZONE_MOVABLE.
        pinnable: u64,
        /// Free memory in CMA areas.
        cma_free: u64,
        /// Free memory in ZONE_MOVABLE.
        movable_free: u64,
    },
    /// More than the cgroup may have.
    #[error(
        "pinning the guest needs {:.1}, the memory limit of cgroup {path} is {:.1}, {:.1} of it free",
        Bytes(*need), Bytes(*limit), Bytes(*free)
    )]
    #[diagnostic(help(
        "raise it (memory.max, MemoryMax= in a systemd unit, the memory limit of a container), or lower --memory"
    ))]
    OverLimit {
        /// Guest memory and what the kernel spends on pinning it.
        need: u64,
        /// The cgroup with the limit: ours, or one that it is in.
        path: String,
        /// Its `memory.max`.
        limit: u64,
        /// What of it is not used, or can be reclaimed.
        free: u64,
    },
    /// The huge pages that were asked for are not to be had.
    #[error(transparent)]
    #[diagnostic(transparent)]
    HugePages(#[from] HugePageError),
    /// The process may not pin that much.
    #[error("pinning the guest needs a memlock limit of {:.1}, it is {:.1}", Bytes(*need), Bytes(*have))]
    #[diagnostic(help("raise it (ulimit -l {}, or LimitMEMLOCK= in a systemd unit), or grant CAP_IPC_LOCK", need.div_ceil(1024)))]
    MemlockTooLow {
        /// What is needed.
        need: u64,
        /// RLIMIT_MEMLOCK.
        have: u64,
    },
    /// The host does not say what it has.
    #[error("cannot read the host's memory figures")]
    #[diagnostic(help("/proc must be mounted and readable"))]
    Unreadable {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl AdmitError {
    /// Whether it may be due to memory that is being freed.
    fn may_pass(&self) -> bool {
        match self {
            Self::NotEnough { .. } | Self::HugePages(HugePageError::TooFew { .. }) => true,
            Self::OverLimit { need, limit, .. } => need <= limit,
            _ => false,
        }
    }
}

#[cfg(test)]
#[path = "admit_test.rs"]
mod tests;
