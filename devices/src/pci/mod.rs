//! PCI: functions, their configuration space and BARs, and the host bridge that finds them.

pub mod address;
mod aperture;
pub mod bar;
pub mod bus;
pub mod config;
mod decode;
pub mod function;
mod host_bridge;
pub mod intx;
pub mod msi;
pub mod msix;
pub mod rom;
mod vector;

pub use address::{Devfn, PciAddress};
pub use aperture::Apertures;
pub use bar::{BarSet, BarSpec};
pub use bus::{PciBus, PciBusError};
pub use config::ConfigSpace;
pub use function::{AddressSpace, BarSpace, BarWindow, MappedArea, PciFunction};
pub use intx::InterruptPin;
pub use msi::{Msi, MsiShape};
pub use msix::Msix;
pub use vector::VectorBackend;
