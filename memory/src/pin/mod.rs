//! The pinning subsystem: guest pages are pinned outside CMA and ZONE_MOVABLE before a device may touch them.
//!
//! A page that is first faulted by a long-term pin never lies in CMA or ZONE_MOVABLE, since the kernel allocates
//! it under `memalloc_pin_save`. So nothing is populated beforehand; each unit of RAM is trial-pinned ([`trial`]) by a
//! [`helper`] process that can be killed, then mapped for the devices ([`mapper`]), then the trial pin is released.
//! RAM that is populated is moved by the same trial pin; what refuses to move is narrowed down, tried again, and at
//! last given new pages. What to do after each outcome is decided by a state machine without a system call
//! ([`mod@unit`]); [`bring_up()`] carries it out.

pub mod admit;
pub mod bring_up;
mod cgroup;
mod crew;
pub mod errors;
pub mod escalate;
pub mod helper;
pub mod holders;
mod kernel;
pub mod mapper;
mod metrics;
mod pinners;
pub mod plan;
pub mod privilege;
pub mod probe;
pub mod record;
pub mod report;
#[cfg(test)]
mod scripted;
pub mod trial;
mod turn;
pub mod udmabuf;
pub mod unit;
mod worker;

pub use admit::{AdmitError, admit, admit_unpinned};
pub use bring_up::{PinOptions, Progress, Step, bring_up, bring_up_blocks, bring_up_piece, check_room};
pub use errors::{Cause, PinError, Refusal, Stage};
pub use escalate::{HelpError, RootHelp, RootHelper};
pub use helper::HelperCommand;
pub use holders::Holder;
pub use mapper::{Chunk, DmaMapper, MapError};
pub use plan::plan;
pub use probe::Probe;
pub use record::Record;
pub use report::{Culprit, Means, PinReport};
pub use trial::{Loss, Pinner, TrialRing, TrialUnavailable};

/// Lets one test at a time pin memory: what is pinned is counted for the whole process.
#[cfg(test)]
fn serial() -> std::sync::MutexGuard<'static, ()> {
    static SERIAL: std::sync::Mutex<()> = std::sync::Mutex::new(());
    SERIAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
