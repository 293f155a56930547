//! How a run of the guest ends: the first reason given counts, and everybody is told. But a guest that is to run again does not if
//! the operator or the host has said otherwise meanwhile: one that ends again and again must not outrun them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use devices::Action;
use rustix::event::{EventfdFlags, eventfd};
use vfio::DeviceLoss;

use crate::hypervisor::vcpu::GuestFailure;
use crate::virtio::pmem::lost::Lost;

/// Why the guest does not run any more.
#[derive(Debug)]
pub enum End {
    /// The guest powered off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest said that it has panicked.
    Panicked,
    /// The guest has not reloaded its watchdog in time.
    Expired,
    /// The guest wrote to the debug-exit port.
    DebugExit(u32),
    /// The operator ended it, from the console or by a signal.
    Stopped(&'static str),
    /// A device is lost to the guest.
    Lost(DeviceLoss),
    /// A file that is a part of its memory was cut short.
    CutShort(Lost),
    /// The guest, or the machine under it, failed.
    Failed(GuestFailure),
}

/// Where the reason is left.
pub struct Ending {
    reasons: Mutex<Reasons>,
    over: AtomicBool,
    event: OwnedFd,
}

#[derive(Default)]
struct Reasons {
    first: Option<End>,
    /// The first of the operator's and the host's that came after that.
    overruling: Option<End>,
}

impl Ending {
    /// Nothing ended yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            reasons: Mutex::default(),
            over: AtomicBool::new(false),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Ends the run.
    pub fn end(&self, reason: End) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            reason if reasons.first.is_none() => reasons.first = Some(reason),
            End::Stopped(_) | End::Lost(_) | End::CutShort(_) if reasons.overruling.is_none() => {
                reasons.overruling = Some(reason)
            }
            _ => {}
        }
        drop(reasons);
        self.over.store(true, Ordering::SeqCst);
        if let Err(error) = rustix::io::write(&self.event, &1_u64.to_ne_bytes()) {
            tracing::error!(%error, "cannot tell that the machine has ended");
        }
    }

    /// Ends the run if `action` says so.
    pub fn act(&self, action: Action) {
        match action {
            Action::None => {}
            Action::PowerOff => self.end(End::PowerOff),
            Action::Reset => self.end(End::Reset),
            Action::Panicked => self.end(End::Panicked),
            Action::DebugExit(value) => self.end(End::DebugExit(value)),
        }
    }

    /// Whether the run has ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Becomes readable when the run ends, and stays so.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// The reason, given which of them have the guest run again.
    pub fn take(&self, runs_again: impl FnOnce(&End) -> bool) -> Option<End> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let Reasons { first, overruling } = std::mem::take(&mut *reasons);
        if first.as_ref().is_some_and(runs_again) { overruling.or(first) } else { first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_ends_again_and_again_does_not_outrun_the_operator() {
        let taken = |reasons: Vec<End>, again: bool| {
            let ending = Ending::new().unwrap();
            reasons.into_iter().for_each(|reason| ending.end(reason));
            assert!(ending.is_over());
            ending.take(|_| again)
        };
        let stopped = || End::Stopped("by a signal");
        for first in [End::Reset, End::PowerOff, End::Panicked, End::Expired] {
            assert!(matches!(
                taken(vec![first, stopped(), End::Stopped("too late")], true),
                Some(End::Stopped("by a signal"))
            ));
        }
        // What ends it anyway is said.
        assert!(matches!(taken(vec![End::Panicked, stopped()], false), Some(End::Panicked)));
        assert!(matches!(taken(vec![stopped(), End::Reset], true), Some(End::Stopped(_))));
        assert!(matches!(taken(vec![End::Reset, End::PowerOff], true), Some(End::Reset)));
    }
}
