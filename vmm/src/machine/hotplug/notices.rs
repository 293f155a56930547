//! What the host has to say of the devices that are passed through, whichever these are just now: one descriptor for the
//! event loop.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use devices::pci::PciAddress;
use vfio::{DeviceLoss, Notice};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// The notices of all devices.
pub struct Notices {
    /// What is closed leaves it.
    epoll: Epoll,
    all: Mutex<Vec<(PciAddress, Notice)>>,
}

impl Notices {
    /// None yet. Fails when the host is short of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new()?, all: Mutex::default() })
    }

    /// Listens to what is said of the device at `address`.
    pub fn listen(&self, address: PciAddress, notices: Vec<Notice>) {
        let mut all = self.lock();
        for notice in notices {
            // No need to know which: all are looked at.
            let event = EpollEvent::new(EventSet::IN, 0);
            if let Err(error) = self.epoll.ctl(ControlOperation::Add, notice.as_raw_fd(), event) {
                tracing::warn!(%address, %error, "the host is not listened to");
            }
            all.push((address, notice));
        }
    }

    /// Does not listen to what is said of a device any more.
    pub fn forget(&self, address: PciAddress) {
        self.lock().retain(|(other, _)| *other != address);
    }

    /// What has been said since this was last asked.
    pub fn arrived(&self) -> Vec<DeviceLoss> {
        self.lock().iter().filter_map(|(_, notice)| notice.arrived()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(PciAddress, Notice)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRawFd for Notices {
    /// Readable when something has arrived.
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}
