//! Looking at an eventfd without taking from it.
//!
//! # Unsafe
//!
//! vmm-sys-util offers reading and writing only, so `poll(2)` is called through libc.
#![expect(unsafe_code, reason = "poll(2) through libc")]

use std::os::fd::{AsRawFd, RawFd};

use vmm_sys_util::eventfd::EventFd;

/// Whether a signal waits in the eventfd.
pub(crate) fn is_signalled(eventfd: &EventFd) -> bool {
    poll([eventfd.as_raw_fd()], 0)
}

/// Whether one of them can be read, waiting for that for so many milliseconds.
pub(crate) fn poll<const N: usize>(descriptors: [RawFd; N], timeout: i32) -> bool {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: `polled` is N valid entries that outlive the call.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) };
    ready > 0 && polled.iter().any(|entry| entry.revents & libc::POLLIN != 0)
}
