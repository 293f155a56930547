//! What has to happen between fork and exec of a child: dying with its parent, handing on file
//! descriptors, leading a session on a terminal.
//!
//! # Unsafe
//! `pre_exec` closures run in the forked child, where only async-signal-safe calls are allowed: they make
//! plain system calls and allocate nothing.

#![expect(unsafe_code, reason = "CommandExt::pre_exec")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;
use rustix::process::Signal;

/// Has the child killed when the thread that spawns it ends, and lets it inherit `descriptors`.
pub(crate) fn bound_to_this_thread(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let parent = rustix::process::getpid();
    let setup = move || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        for descriptor in &descriptors {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor takes locks.
    unsafe { command.pre_exec(setup) };
}

/// Has the child lead a session of its own, with standard input as the controlling terminal if `terminal`.
pub(crate) fn leads_session(command: &mut Command, terminal: bool) {
    let setup = move || -> io::Result<()> {
        rustix::process::setsid()?;
        if terminal {
            // SAFETY: descriptor 0 was set up by the spawn and stays open past this call.
            let stdin = unsafe { BorrowedFd::borrow_raw(0) };
            rustix::process::ioctl_tiocsctty(stdin)?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor takes locks.
    unsafe { command.pre_exec(setup) };
}
