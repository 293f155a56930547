//! Hears of changes of the host's network interfaces (rtnetlink(7)).
//!
//! Who waits for frames of a tap learns from the same descriptor that the tap is gone. Who does not wait, as when the kernel's
//! vhost has the frames, would be woken for each of them: so it listens here, and looks at its taps when something changed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// `RTMGRP_LINK`: interfaces come, go and change (linux/rtnetlink.h).
const LINKS: u32 = 1;

/// A socket that is readable after changes.
#[derive(Debug)]
pub struct LinkMonitor(OwnedFd);

impl LinkMonitor {
    /// Listens from now on.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Of its protocols, NETLINK_ROUTE is number 0.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, LINKS))?;
        Ok(Self(socket))
    }

    /// Forgets the changes there were: from here on it is readable after others.
    pub fn take(&self) {
        // What they were does not matter, nor that some were lost.
        let mut message = [0; 64];
        while matches!(
            recv(&self.0, &mut message, RecvFlags::empty()),
            Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR)
        ) {}
    }
}

impl AsRawFd for LinkMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
