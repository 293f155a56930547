//! What a guest sees: buses, PCI, interrupts, the serial port and the few legacy ports.
//!
//! This crate knows no KVM and no VFIO. What it needs of a hypervisor it asks for through the traits in
//! [`irq`] and [`pci`]; what a write asks of the machine it returns as an [`Action`].

pub mod bus;
pub mod disk;
pub mod doorbell;
mod eventfd;
pub mod ioapic;
pub mod irq;
pub mod legacy;
pub mod pci;
pub mod pvpanic;
pub mod rate;
pub mod serial;
mod sync;
pub mod tap;
#[cfg(test)]
mod testing;
pub mod virtio;
pub mod watchdog;

pub use bus::{Action, Bus, BusDevice};
