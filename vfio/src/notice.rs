//! What the host has to say of a device while a guest has it: that it failed, or that it is wanted back.
//!
//! vfio-pci signals one eventfd for uncorrectable errors (`VFIO_PCI_ERR_IRQ_INDEX`, PCIe devices only) and another when
//! somebody unbinds the device or its module (`VFIO_PCI_REQ_IRQ_INDEX`), and then waits until it is closed.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use devices::pci::PciAddress;
use miette::Diagnostic;
use tracing::warn;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::aer::ErrorCounts;
use crate::sysfs::Host;
use crate::vectors::SetIrqs;

/// Why a guest cannot keep a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceLoss {
    /// It signalled an error that it does not recover from by itself.
    #[error("{address} reported an uncorrectable error{}{}", if errors.is_empty() { "" } else { ": " }, errors.join(", "))]
    Failed {
        /// The device.
        address: PciAddress,
        /// Which errors, as far as the host's kernel counts them.
        errors: Vec<String>,
    },
    /// It is being unbound from vfio-pci.
    #[error("the host wants {0} back")]
    Wanted(PciAddress),
}

impl Diagnostic for DeviceLoss {
    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        Some(Box::new(match self {
            Self::Failed { .. } => {
                "the guest was stopped before it could use wrong data: `dmesg | grep -iE 'aer|vfio'` tells what the host \
                 knows of the error; the next start resets the device"
            }
            Self::Wanted(_) => {
                "the guest was stopped, since whoever unbinds a device waits for it: shut the guest down first; it is \
                 asked for a device behind a root port (--vfio BDF,port)"
            }
        }))
    }
}

/// What the host may say of a device.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// That it failed, after these errors that it has had before.
    Failure(ErrorCounts),
    /// That it is wanted back.
    Request,
}

/// An eventfd that is readable once the host has said so. Dropping it makes the host say it to nobody.
pub struct Notice {
    eventfd: EventFd,
    address: PciAddress,
    subject: Subject,
    irqs: Box<dyn SetIrqs>,
}

impl Notice {
    /// Has the host say this of the device at `address`, by `irqs`.
    pub(crate) fn new(
        irqs: impl SetIrqs + 'static,
        address: PciAddress,
        subject: Subject,
    ) -> io::Result<Self> {
        let eventfd = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        irqs.set(0, &[eventfd.as_raw_fd()])?;
        Ok(Self { eventfd, address, subject, irqs: Box::new(irqs) })
    }

    /// What the host has said since this was last asked, which it may do again and again.
    pub fn arrived(&self) -> Option<DeviceLoss> {
        self.eventfd.read().ok()?;
        let address = self.address;
        Some(match &self.subject {
            // The kernel counts first.
            Subject::Failure(before) => {
                let errors = Host::default().uncorrectable_errors(address).since(before);
                DeviceLoss::Failed { address, errors }
            }
            Subject::Request => DeviceLoss::Wanted(address),
        })
    }
}

impl AsRawFd for Notice {
    fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if let Err(error) = self.irqs.disable() {
            warn!(device = self.irqs.owner(), %error, "the host keeps an eventfd");
        }
    }
}

#[cfg(test)]
#[path = "notice_test.rs"]
mod tests;
