//! Queues that the host's kernel serves (Linux's drivers/vhost/vhost.c): a doorbell wakes its worker, which raises the queue's
//! vector itself. This is what its drivers have in common; what a ring leads to is for the devices to say.
//!
//! The kernel takes the rings at addresses of this process and checks no more than that these are its own. So each ring is
//! found to lie in one piece of guest memory before it is handed over.

pub(super) mod ring;
mod watch;

use std::fmt::{self, Display};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use memory::{GuestRam, GuestRange};
use miette::Diagnostic;
use thiserror::Error;
use vhost::vhost_kern::VhostKernBackend;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::{Queue, RaisedOutside};
pub(super) use watch::Errors;

/// A driver of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Of network cards.
    Net,
    /// Of socket devices.
    Vsock,
}

/// What is in the way of the kernel's help.
#[derive(Debug, Error, Diagnostic)]
pub enum VhostError {
    /// No driver.
    #[error("there is no {0}")]
    #[diagnostic(help("load the driver: modprobe {}", .0.module()))]
    Missing(Driver, #[source] io::Error),
    /// Not for us.
    #[error("no permission to open {0}")]
    #[diagnostic(help(
        "it belongs to a group, usually kvm: usermod -aG kvm $USER, or as root: chmod 666 {}", .0
    ))]
    Permission(Driver, #[source] io::Error),
    /// Anything else.
    #[error("{0} cannot be used")]
    #[diagnostic(help("`dmesg` may tell why; {} does without it", .0.without()))]
    Unusable(Driver, #[source] io::Error),
}

impl Driver {
    fn module(self) -> &'static str {
        match self {
            Self::Net => "vhost_net",
            Self::Vsock => "vhost_vsock",
        }
    }

    /// What an operator asks for instead.
    fn without(self) -> &'static str {
        match self {
            Self::Net => "`vhost=off`",
            Self::Vsock => "`socket=PATH` instead of `vhost`",
        }
    }
}

/// Its node.
impl Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Net => "/dev/vhost-net",
            Self::Vsock => "/dev/vhost-vsock",
        })
    }
}

/// An open node of a driver, which is ours: it serves the guest of this process.
#[derive(Debug)]
pub(super) struct Node {
    file: Arc<File>,
    /// What the driver can do, of the features that a device may offer.
    pub(super) known: u64,
}

impl Node {
    /// Opens it.
    ///
    /// # Errors
    /// There is none, it is not for us, or it lacks one of the features `needed`, or is of before virtio 1.0.
    pub(super) fn open(driver: Driver, needed: u64) -> Result<Self, VhostError> {
        let path = driver.to_string();
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => VhostError::Missing(driver, error),
            Some(libc::EACCES | libc::EPERM) => VhostError::Permission(driver, error),
            _ => VhostError::Unusable(driver, error),
        })?;
        let unusable = |error| VhostError::Unusable(driver, error);
        let kernel = Kernel { file: Arc::new(file), memory: Arc::default(), _ram: None };
        kernel.set_owner().map_err(|error| unusable(os_error(error)))?;
        let known = kernel.get_features().map_err(|error| unusable(os_error(error)))?;
        let needed = needed | 1 << VIRTIO_F_VERSION_1;
        if known & needed != needed {
            return Err(unusable(io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
        }
        Ok(Self { file: kernel.file, known })
    }

    /// Makes it ready for a guest's driver that accepted `features`.
    pub(super) fn prepare(&self, features: u64, ram: &Arc<GuestRam>) -> io::Result<Arc<Kernel>> {
        let memory = Arc::new(ram.guest_memory().clone());
        let kernel = Kernel { file: Arc::clone(&self.file), memory, _ram: Some(Arc::clone(ram)) };
        kernel.set_features(features & self.known).map_err(os_error)?;
        kernel.set_mem_table(&regions(ram)).map_err(os_error)?;
        Ok(Arc::new(kernel))
    }
}

impl AsRawFd for Node {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// All guest memory, as the kernel is told of it.
fn regions(ram: &GuestRam) -> Vec<VhostUserMemoryRegionInfo> {
    let region = |(guest, hva): (GuestRange, u64)| VhostUserMemoryRegionInfo {
        guest_phys_addr: guest.start,
        memory_size: guest.size,
        userspace_addr: hva,
        ..VhostUserMemoryRegionInfo::default()
    };
    let persistent = ram.persistent().iter().map(|memory| (memory.guest(), memory.hva()));
    ram.regions().iter().map(|region| (region.guest, region.hva)).chain(persistent).map(region).collect()
}

fn os_error(error: vhost::Error) -> io::Error {
    match error {
        vhost::Error::IoctlError(error) | vhost::Error::IOError(error) => error,
        other => io::Error::other(other),
    }
}

/// The kernel's end of rings that a guest's driver has set up, and the memory they are in.
pub(super) struct Kernel {
    file: Arc<File>,
    // Dropped before what it is a view of.
    memory: Arc<GuestMemoryMmap>,
    /// Keeps it mapped.
    _ram: Option<Arc<GuestRam>>,
}

impl Kernel {
    /// Tells the kernel of a ring, which it does not serve at this time: where it is, and whom to signal. The interrupts are
    /// the kernel's to raise until the result is dropped. `device` is what messages call it.
    pub(super) fn set_ring(
        self: &Arc<Self>,
        ring: usize,
        queue: &Queue,
        error: &EventFd,
        device: &str,
    ) -> io::Result<RaisedOutside> {
        let config = ring::config(queue).map_err(io::Error::other)?;
        self.set_vring_num(ring, config.queue_size).map_err(os_error)?;
        self.set_vring_base(ring, 0).map_err(os_error)?;
        self.set_vring_addr(ring, &config).map_err(os_error)?;
        self.set_vring_err(ring, error).map_err(os_error)?;
        self.set_vring_kick(ring, queue.kick()).map_err(os_error)?;
        let (called, device) = (Arc::clone(self), device.to_owned());
        queue.notifier().raised_outside(queue.index(), move |eventfd| {
            if let Err(error) = called.set_vring_call(ring, eventfd) {
                tracing::warn!(device, ring, %error, "the kernel does not take another interrupt for a ring");
            }
        })
    }
}

impl AsRawFd for Kernel {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl VhostKernBackend for Kernel {
    type AS = Arc<GuestMemoryMmap>;

    fn mem(&self) -> &Self::AS {
        &self.memory
    }

    /// [`ring::config`] has looked, and the crate's own look refuses a ring that ends where memory does.
    fn is_valid(&self, _: &VringConfigData) -> bool {
        true
    }
}
