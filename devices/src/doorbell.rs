//! Doorbells: addresses that a guest writes to in order to tell a device something, without an exit to this process. The
//! hypervisor implements the trait; devices only use it.

use std::io;

use vmm_sys_util::eventfd::EventFd;

/// Rings eventfds by writes of the guest.
pub trait Doorbells: Send + Sync {
    /// From now on each write at `gpa`, whatever its size and value, signals `eventfd` instead of getting here. Dropping the
    /// result ends that.
    fn hang(&self, gpa: u64, eventfd: &EventFd) -> io::Result<Box<dyn Doorbell>>;
}

/// A doorbell that is in its place.
pub trait Doorbell: Send + Sync {}
