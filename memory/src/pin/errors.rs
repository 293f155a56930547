//! Why guest memory could not be pinned. The kernel answers ENOMEM for nearly everything, so what happened is told
//! apart by the counters that moved meanwhile and by arithmetic.

use std::fmt;
use std::io;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use super::mapper::MapError;
use super::privilege::Memlock;
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
        /// Pages that failed to move meanwhile, host-wide.
        pages: u64,
    },
    /// A signal came in between.
    Interrupted,
    /// The pages could not be faulted in.
    Unbacked,
    /// Something else; the error number says what.
    Other,
}

impl Cause {
    /// What a refusal with `error` was due to, given the counters' growth during the call (if they could be read)
    /// and whether the call may have exceeded `memlock`.
    pub fn classify(error: &io::Error, grown: Option<&Vmstat>, memlock: Option<Memlock>) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOMEM) => match (grown, memlock) {
                (Some(grown), _) if grown.migration_failed() => {
                    Self::Migration { pages: grown.pgmigrate_fail.max(1) }
                }
                (_, Some(memlock)) => Self::Memlock(memlock),
                _ => Self::NoMemory,
            },
            Some(libc::EINTR | libc::EAGAIN) => Self::Interrupted,
            Some(libc::EFAULT) => Self::Unbacked,
            _ => Self::Other,
        }
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Migration { .. } | Self::Interrupted)
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Memlock(_) => {
                "raise the memlock limit above the guest's memory (ulimit -l, LimitMEMLOCK=), or grant CAP_IPC_LOCK"
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
            Self::Other => "see the error above; the kernel log (dmesg) may say more",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memlock(limit) => write!(f, "the memlock limit ({limit}) is exceeded"),
            Self::NoMemory => f.write_str("the host has no more memory that can be pinned"),
            Self::Migration { pages } => {
                write!(f, "{pages} pages could not be moved out of CMA or ZONE_MOVABLE")
            }
            Self::Interrupted => f.write_str("interrupted by a signal"),
            Self::Unbacked => f.write_str("the memory could not be faulted in"),
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
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrialPin => "pin",
            Self::DmaMap => "map for DMA",
        })
    }
}

/// What the kernel said, from whichever interface.
#[derive(Debug, Error)]
pub enum Refusal {
    /// io_uring.
    #[error("IORING_REGISTER_BUFFERS_UPDATE")]
    TrialPin(#[source] io::Error),
    /// The devices' DMA map.
    #[error(transparent)]
    DmaMap(MapError),
}

impl Refusal {
    /// The bare error.
    pub fn io_error(&self) -> &io::Error {
        match self {
            Self::TrialPin(error) => error,
            Self::DmaMap(error) => &error.source,
        }
    }

    /// Where it came from.
    pub fn stage(&self) -> Stage {
        match self {
            Self::TrialPin(_) => Stage::TrialPin,
            Self::DmaMap(_) => Stage::DmaMap,
        }
    }
}

/// Guest memory that could not be pinned. Whatever had been mapped is unmapped again.
#[derive(Debug, Error, Diagnostic)]
pub enum PinError {
    /// The kernel refused a part of it for good, or for longer than is put up with.
    #[error("cannot {} guest memory {guest}: {cause} ({attempts} attempts, {:.1} s){}", refusal.stage(), elapsed.as_secs_f64(), stuck(census))]
    #[diagnostic(help("{}", cause.remedy()))]
    Refused {
        /// The part.
        guest: GuestRange,
        /// What it was due to.
        cause: Cause,
        /// How often it was tried.
        attempts: u32,
        /// From the first attempt to giving up.
        elapsed: Duration,
        /// Where the pages of the part lay then, if that could be seen and matters.
        census: Option<Box<Census>>,
        /// What the kernel said last.
        #[source]
        refusal: Box<Refusal>,
    },
    /// Neither trial pin nor DMA map: nothing to fault memory in with.
    #[error("guest memory cannot be faulted in outside CMA: {reason}")]
    #[diagnostic(help("allow io_uring, pass a device through, or start without --prefault"))]
    NoPinner {
        /// Why there is no trial pin.
        reason: String,
    },
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
