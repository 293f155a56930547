//! Why guest memory could not be pinned. The kernel answers ENOMEM for nearly everything, so what happened is told
//! apart by the counters that moved meanwhile and by arithmetic.

use std::fmt;
use std::io;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use super::admit::AdmitError;
use super::holders::Holder;
use super::mapper::MapError;
use super::plan::SUB_UNIT;
use super::privilege::Memlock;
use super::report::LOGGED;
use crate::GuestRange;
use crate::residency::{Census, Vmstat};

/// What a refusal was due to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// RLIMIT_MEMLOCK.
    Memlock(Memlock),
    /// Memory outside CMA and ZONE_MOVABLE ran out.
    NoMemory,
    /// Pages in CMA or ZONE_MOVABLE could not be moved, because something held on to them for the moment.
    Migration {
        /// Pages that failed to move meanwhile, host-wide; 0 if that could not be seen.
        pages: u64,
    },
    /// A signal came in between.
    Interrupted,
    /// The pages could not be faulted in.
    Unbacked,
    /// The kernel did not come back from the call.
    Stalled,
    /// The process that held the trial pins died.
    HelperLost,
    /// Something else; the error number says what.
    Other,
}

impl Cause {
    /// What a refusal with `error` was due to, given the counters' growth during the call (if they could be read)
    /// whether the call may have exceeded `memlock`, and how much `spare` memory that can be pinned is left, in bytes.
    pub fn classify(
        error: &io::Error,
        grown: Option<&Vmstat>,
        memlock: Option<Memlock>,
        spare: Option<u64>,
    ) -> Self {
        let errno = error.raw_os_error();
        // get_user_pages returns short, which io_uring makes EFAULT, when pages before the culprit were pinned without
        // taking the slow path (mm/gup.c, gup_fast_fallback).
        let unmoved = match grown {
            Some(grown) => grown.migration_failed().then(|| grown.pgmigrate_fail.max(1)),
            // Without counters only trying again can tell.
            None => memlock.is_none().then_some(0),
        };
        if let (Some(libc::ENOMEM | libc::EFAULT), Some(pages)) = (errno, unmoved) {
            // Pages fail to move as well when there is nowhere to move them to.
            return match spare {
                Some(spare) if spare < SUB_UNIT => Self::NoMemory,
                _ => Self::Migration { pages },
            };
        }
        match (errno, memlock) {
            (Some(libc::ENOMEM), Some(memlock)) if spare.is_none_or(|spare| spare >= SUB_UNIT) => {
                Self::Memlock(memlock)
            }
            (Some(libc::ENOMEM), _) => Self::NoMemory,
            (Some(libc::EINTR | libc::EAGAIN), _) => Self::Interrupted,
            (Some(libc::EFAULT), _) => Self::Unbacked,
            _ => Self::Other,
        }
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Migration { .. } | Self::Interrupted)
    }

    /// Whether others who have the memory may be the reason.
    pub(super) fn has_holders(&self) -> bool {
        matches!(self, Self::Migration { .. } | Self::Stalled)
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Memlock(_) => {
                "raise the memlock limit above the guest's memory, through iommufd above that of all machines of this user (ulimit -l, LimitMEMLOCK=), or grant CAP_IPC_LOCK"
            }
            Self::NoMemory => {
                "lower --memory or free host memory; CMA and ZONE_MOVABLE do not count, no device may pin memory there"
            }
            Self::Migration { .. } => {
                "something on the host keeps these pages busy (another process that shares the memfd, direct I/O, drop_caches in a loop); stop it, or raise the pin deadline"
            }
            Self::Interrupted => "signals keep interrupting the start; retry",
            Self::Unbacked => {
                "the memory behind the guest could not be had: check the cgroup's memory limit and the size of /dev/shm or the hugetlb pool"
            }
            Self::Stalled => {
                "a page cannot be taken off the kernel's lists (mm/gup.c loops until it can); see who holds it, or give the guest fresh memory"
            }
            Self::HelperLost => "see who kills the vmm pin-helper processes (the OOM killer? dmesg tells)",
            Self::Other => "see the error above; the kernel log (dmesg) may say more",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memlock(limit) => write!(f, "the memlock limit ({limit}) is exceeded"),
            Self::NoMemory => f.write_str("the host has no more memory that can be pinned"),
            Self::Migration { pages: 0 } => {
                f.write_str("pages could not be moved out of CMA or ZONE_MOVABLE, as far as can be told without /proc/vmstat")
            }
            Self::Migration { pages } => {
                write!(f, "{pages} pages could not be moved out of CMA or ZONE_MOVABLE")
            }
            Self::Interrupted => f.write_str("interrupted by a signal"),
            Self::Unbacked => f.write_str("the memory could not be faulted in"),
            Self::Stalled => f.write_str("the kernel did not come back from pinning it"),
            Self::HelperLost => f.write_str("the process that pins it died again and again"),
            Self::Other => f.write_str("the kernel refused"),
        }
    }
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Taking the trial pin.
    TrialPin,
    /// Mapping for the devices.
    DmaMap,
    /// Giving it new pages.
    Replace,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrialPin => "pin",
            Self::DmaMap => "map for DMA",
            Self::Replace => "replace the pages of",
        })
    }
}

/// What the kernel said, from whichever interface.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The trial pin.
    #[error("{call}")]
    TrialPin {
        /// Who was asked for it.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The devices' DMA map.
    #[error(transparent)]
    DmaMap(MapError),
    /// Copying contents to new pages.
    #[error("{call}")]
    Replace {
        /// What failed.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Faulting it in.
    #[error("madvise(MADV_POPULATE_WRITE)")]
    Populate(#[source] io::Error),
    /// The helper process.
    #[error("the pin helper process")]
    Helper(#[source] io::Error),
}

impl Refusal {
    /// The bare error.
    pub fn io_error(&self) -> &io::Error {
        match self {
            Self::TrialPin { source, .. }
            | Self::Replace { source, .. }
            | Self::Populate(source)
            | Self::Helper(source) => source,
            Self::DmaMap(error) => &error.source,
        }
    }

    /// Where it came from.
    pub fn stage(&self) -> Stage {
        match self {
            Self::TrialPin { .. } | Self::Populate(_) | Self::Helper(_) => Stage::TrialPin,
            Self::DmaMap(_) => Stage::DmaMap,
            Self::Replace { .. } => Stage::Replace,
        }
    }
}

/// Guest memory that could not be pinned. Whatever had been mapped is unmapped again.
#[derive(Debug, Error, Diagnostic)]
pub enum PinError {
    /// The kernel refused a part of it for good, or for longer than is put up with.
    #[error("cannot {} guest memory {guest}: {cause} ({attempts} attempts, {:.1} s){}", refusal.stage(), elapsed.as_secs_f64(), stuck(census))]
    #[diagnostic(help("{}", remedy(cause, holders)))]
    Refused {
        /// The part, from its first page that is stuck to its last.
        guest: GuestRange,
        /// All parts that are stuck.
        culprits: Vec<GuestRange>,
        /// What it was due to.
        cause: Cause,
        /// How often it was tried.
        attempts: u32,
        /// From the first attempt to giving up.
        elapsed: Duration,
        /// Where the pages of the part lay then, if that could be seen and matters.
        census: Option<Box<Census>>,
        /// Who else has the memory mapped or open.
        holders: Vec<Holder>,
        /// What the kernel said last.
        #[source]
        refusal: Box<Refusal>,
    },
    /// It does not fit the host after all.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NotAdmitted(#[from] AdmitError),
    /// Faulting it in beforehand failed.
    #[error("cannot populate guest memory {guest}")]
    #[diagnostic(help(
        "check the cgroup's memory limit and the size of /dev/shm or the hugetlb pool, or start without --prefault populate"
    ))]
    Populate {
        /// The part.
        guest: GuestRange,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// More maps than the container takes.
    #[error("mapping the guest takes {need} DMA maps, the container has room for {room}")]
    #[diagnostic(help(
        "raise the limit (echo 65535 > /sys/module/vfio_iommu_type1/parameters/dma_entry_limit), or pass the devices \
         through iommufd, which has none (--vfio BDF,backend=iommufd)"
    ))]
    NoRoom {
        /// How many there would be, each as large as can be.
        need: u64,
        /// How many it takes.
        room: u64,
    },
    /// Neither trial pin nor DMA map: nothing to fault memory in with.
    #[error("guest memory cannot be faulted in outside CMA: {reason}")]
    #[diagnostic(help("allow io_uring, pass a device through, or start without --prefault"))]
    NoPinner {
        /// Why there is no trial pin.
        reason: String,
    },
}

impl PinError {
    /// What kind it is, for a program.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { cause, .. } => match cause {
                Cause::Memlock(_) => "memlock",
                Cause::NoMemory => "no_memory",
                Cause::Migration { .. } => "migration",
                Cause::Interrupted => "interrupted",
                Cause::Unbacked => "unbacked",
                Cause::Stalled => "stalled",
                Cause::HelperLost => "helper_lost",
                Cause::Other => "refused",
            },
            Self::NotAdmitted(_) => "not_admitted",
            Self::Populate { .. } => "populate",
            Self::NoRoom { .. } => "no_room",
            Self::NoPinner { .. } => "no_pinner",
        }
    }
}

impl PinError {
    /// Tells the log what it is about; the error itself is for who called.
    pub(super) fn note(&self) {
        if let Self::Refused { culprits, cause, holders, .. } = self {
            for guest in culprits.iter().take(LOGGED) {
                tracing::info!(%guest, %cause, "a culprit, given up");
            }
            for holder in holders {
                tracing::info!(
                    pid = holder.pid,
                    command = holder.command,
                    maps = holder.maps,
                    "has the memory"
                );
            }
        }
        tracing::info!(kind = self.kind(), error = %self, "guest memory is not up");
    }
}

fn remedy(cause: &Cause, holders: &[Holder]) -> String {
    if !cause.has_holders() || holders.is_empty() {
        return cause.remedy().to_owned();
    }
    let list: Vec<String> = holders.iter().map(ToString::to_string).collect();
    format!("another process has the guest's memory: {}. Stop it, then retry", list.join(", "))
}

/// `; 3 pages are in CMA area "reserved"`
fn stuck(census: &Option<Box<Census>>) -> String {
    let Some(census) = census.as_deref().filter(|census| census.is_exact()) else { return String::new() };
    let mut places: Vec<String> =
        census.cma.iter().map(|(area, pages)| format!("{pages} pages are in CMA area \"{area}\"")).collect();
    if census.movable > 0 {
        places.push(format!("{} pages are in ZONE_MOVABLE", census.movable));
    }
    places.iter().map(|place| format!("; {place}")).collect()
}

#[cfg(test)]
#[path = "errors_test.rs"]
mod tests;
