//! PCI: functions, their configuration space and BARs, and the host bridge that finds them.

pub mod address;
pub mod function;

pub use address::PciAddress;
pub use function::{AddressSpace, BarSpace, BarWindow, MappedArea, PciFunction};
