//! The IOMMU of devices that the guest confines, and what it cannot be had with.

use devices::pci::PciAddress;
use miette::Diagnostic;
use thiserror::Error;

use crate::problem::{Class, Problems};
use crate::spec::MachineSpec;

/// A confined device that cannot be had.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum IommuError {
    /// ACPI names the devices that an IOMMU is in charge of by their numbers, once and for all.
    #[error("{0} cannot be behind the guest's IOMMU and behind a root port")]
    #[diagnostic(help(
        "the guest is told at its start which devices the IOMMU is in charge of, by their places on bus 0: leave out `port` or `iommu`"
    ))]
    BehindPort(PciAddress),
    /// A device that is added while the guest runs.
    #[error("{0} cannot be added behind the guest's IOMMU while the guest runs")]
    #[diagnostic(help(
        "the guest is told at its start which devices the IOMMU is in charge of: start the machine with it, or add it without `iommu`"
    ))]
    Late(PciAddress),
    /// Pages that go while a device may have them pinned.
    #[error(
        "memory that can be plugged in and a device behind the guest's IOMMU ({0}) cannot be had together"
    )]
    #[diagnostic(help(
        "a block that the guest gives back could still be pinned for the device: raise --memory and leave out --hotplug-memory, or leave \
         out `iommu`"
    ))]
    BesideHotplugMemory(PciAddress),
}

/// What is wrong with a machine's confined devices whatever the host.
pub(crate) fn validate(spec: &MachineSpec, problems: &mut Problems) {
    for device in spec.vfio.devices.iter().filter(|device| device.confined && device.port) {
        problems.add(Class::Usage, IommuError::BehindPort(device.address));
    }
    if let (Some(_), Some(address)) = (spec.pluggable, spec.vfio.confined().first()) {
        problems.add(Class::Usage, IommuError::BesideHotplugMemory(*address));
    }
}

#[cfg(test)]
#[path = "iommu_test.rs"]
mod tests;
