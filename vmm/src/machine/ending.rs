//! How a run of the guest ends: the first reason given counts, and everybody is told.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use devices::Action;
use rustix::event::{EventfdFlags, eventfd};
use vfio::DeviceLoss;

use crate::hypervisor::vcpu::GuestFailure;

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
    /// The guest, or the machine under it, failed.
    Failed(GuestFailure),
}

/// Where the reason is left.
pub struct Ending {
    first: Mutex<Option<End>>,
    over: AtomicBool,
    event: OwnedFd,
}

impl Ending {
    /// Nothing ended yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            first: Mutex::new(None),
            over: AtomicBool::new(false),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Ends the run. The first reason counts, but the operator's and the host's come before a reset.
    pub fn end(&self, reason: End) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        // A guest that resets again and again must not outrun them.
        if matches!((&*first, &reason), (None, _) | (Some(End::Reset), End::Stopped(_) | End::Lost(_))) {
            *first = Some(reason);
        }
        drop(first);
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

    /// The reason.
    pub fn take(&self) -> Option<End> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
