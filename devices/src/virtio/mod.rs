//! Virtio devices (virtio 1.3): what a device is, the rings it shares with its driver, and the PCI transport.
//!
//! ```text
//! vCPU writes a register      pci/ (common.rs: what the registers mean)      VirtioDevice::activate
//! vCPU rings a doorbell       KVM signals the queue's kick eventfd           a Worker of the device wakes up
//! Queue::pop -> Chain         the device reads and writes guest memory       Queue::complete, Queue::notify
//!                             interrupts.rs raises the queue's vector        KVM delivers it
//! ```
//!
//! A [`VirtioDevice`] lives as long as the machine and holds what it has of the host: an open image, a tap, a socket. What the
//! driver set up lives from DRIVER_OK to the next reset, as the [`Active`] device that [`VirtioDevice::activate`] gives;
//! dropping that is the reset. Workers serve queues; vCPU threads only write registers. A ring that makes no sense stops
//! its device, which says so once and asks the driver for a reset (DEVICE_NEEDS_RESET).

pub mod balloon;
pub mod blk;
pub mod console;
mod device;
pub mod fs;
pub mod interrupts;
pub mod iommu;
pub mod mem;
pub mod net;
pub mod pci;
pub mod pmem;
pub mod queue;
pub mod rng;
#[cfg(test)]
pub(crate) mod testing;
pub mod vhost;
pub mod vhost_user;
pub mod vsock;
pub mod worker;

pub use device::{Activation, Active, DeviceType, PerQueue, RING_FEATURES, VirtioDevice, read_bytes};
pub use interrupts::{Notifier, RaisedOutside};
pub use pci::VirtioPci;
pub use queue::{Chain, Queue, RingError};
pub use worker::Worker;
