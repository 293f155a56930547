//! Waits for the disks of passed-through NVMe controllers, which appear when their driver is done probing.
//!
//! Woken by the kernel's uevents (`lib/kobject_uevent.c`). Since a kernel may lack netlink, and since not
//! every change of a controller's state is an event, the condition is looked at again four times a second
//! besides.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::nvme::{self, Pending};
use super::summary::Report;
use super::system::System;

/// How long a controller may take to come up: CAP.TO of real ones is seconds, and a guest of a guest is slow.
const CONTROLLER_DEADLINE: Duration = Duration::from_secs(60);
/// How long a live controller may take to show its first namespace. One without any costs the guest this
/// much.
const NAMESPACE_DEADLINE: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_millis(250);

/// The kernel's uevents, if it has them.
pub(super) struct Uevents {
    socket: Option<OwnedFd>,
}

impl Uevents {
    /// Starts to listen.
    pub(super) fn open() -> Self {
        let listen = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let protocol = Some(KOBJECT_UEVENT);
            let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
            // Group 1 is what the kernel itself sends.
            bind(&socket, &SocketAddrNetlink::new(0, 1))?;
            Ok::<_, Errno>(socket)
        };
        Self { socket: listen().ok() }
    }

    /// Returns when events came, or after `timeout`.
    fn wait(&self, timeout: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let Some(socket) = &self.socket else {
            let _ = poll(&mut [], Some(&timeout));
            return;
        };
        let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout));
        // What an event says does not matter: sysfs is read again. An overrun (ENOBUFS) is an event, too.
        let mut event = [0; 4096];
        while matches!(recv(socket, &mut event, RecvFlags::empty()), Ok(_) | Err(Errno::NOBUFS)) {}
    }
}

/// Returns when every NVMe controller that has the driver shows a disk, or has had its time.
pub(super) fn for_disks(system: &System, events: &Uevents, report: &mut Report<'_>) {
    let started = Instant::now();
    let mut live_since: Option<Instant> = None;
    loop {
        let (deadline, reason) = match nvme::pending(system) {
            None => return,
            Some(Pending::Controller(address)) => {
                live_since = None;
                (started + CONTROLLER_DEADLINE, format!("the NVMe controller {address} did not come up"))
            }
            Some(Pending::Namespaces(address)) => {
                let since = *live_since.get_or_insert_with(Instant::now);
                (since + NAMESPACE_DEADLINE, format!("the NVMe controller {address} shows no disk"))
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            report.problem(&format!("{reason} within {} s", started.elapsed().as_secs()));
            return;
        }
        events.wait(left.min(HEARTBEAT));
    }
}

#[cfg(test)]
#[path = "wait_test.rs"]
mod tests;
