//! The pinning subsystem: guest pages are pinned outside CMA and ZONE_MOVABLE before a device may touch them.
//!
//! A page that is first faulted by a long-term pin never lies in CMA or ZONE_MOVABLE, since the kernel allocates
//! it under `memalloc_pin_save`. So nothing is populated beforehand; each unit of RAM is trial-pinned ([`trial`]),
//! then mapped for the devices ([`mapper`]), then the trial pin is released. What to do after each outcome is
//! decided by a state machine without a system call ([`mod@unit`]); [`bring_up()`] carries it out.

pub mod admit;
pub mod bring_up;
pub mod errors;
mod kernel;
pub mod mapper;
pub mod privilege;
pub mod report;
pub mod trial;
pub mod unit;
mod worker;

pub use admit::{AdmitError, admit, admit_unpinned};
pub use bring_up::{PinOptions, Progress, bring_up};
pub use errors::{Cause, PinError, Refusal, Stage};
pub use mapper::{Chunk, DmaMapper, MapError};
pub use report::{PinReport, TrialKind};
pub use trial::{TrialPin, TrialRing, TrialUnavailable};
pub use unit::plan;

/// Lets one test at a time pin memory: what is pinned is counted for the whole process.
#[cfg(test)]
fn serial() -> std::sync::MutexGuard<'static, ()> {
    static SERIAL: std::sync::Mutex<()> = std::sync::Mutex::new(());
    SERIAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
