//! PCI: functions, their configuration space and BARs, and the hierarchy of host bridge and root ports they are in.

mod access;
pub mod address;
mod aperture;
pub mod bar;
mod bridge;
pub mod bus;
pub mod config;
mod decode;
mod express;
#[cfg(test)]
mod fixture;
pub mod function;
mod host_bridge;
pub mod intx;
pub mod msi;
pub mod msix;
mod placement;
pub mod rom;
pub mod root_port;
mod slot;
mod topology;
mod vector;

pub use address::{Devfn, PciAddress};
pub use aperture::Apertures;
pub use bar::{BarSet, BarSpec};
pub use bus::{Card, PciBus, PciBusError};
pub use config::ConfigSpace;
pub use function::{AddressSpace, BarSpace, BarWindow, MappedArea, PciFunction};
pub use intx::InterruptPin;
pub use msi::{Msi, MsiShape};
pub use msix::Msix;
pub use root_port::{Departure, RootPort};
pub use slot::SlotState;
pub use topology::Place;
pub use vector::VectorBackend;
