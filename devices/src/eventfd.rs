//! Looking at an eventfd without taking from it.
//!
//! # Unsafe
//!
//! vmm-sys-util offers reading and writing only, so `poll(2)` is called through libc.
#![expect(unsafe_code, reason = "poll(2) through libc")]

use std::os::fd::AsRawFd;

use vmm_sys_util::eventfd::EventFd;

/// Whether a signal waits in the eventfd.
pub(crate) fn is_signalled(eventfd: &EventFd) -> bool {
    poll(eventfd, 0)
}

/// The same, waiting for one for so many milliseconds.
pub(crate) fn poll(eventfd: &EventFd, timeout: i32) -> bool {
    let mut poll = libc::pollfd { fd: eventfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one valid pollfd that outlives the call.
    let ready = unsafe { libc::poll(&mut poll, 1, timeout) };
    ready == 1 && poll.revents & libc::POLLIN != 0
}
