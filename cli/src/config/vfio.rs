//! `--vfio` and `--iommufd`: which host devices, and how they are reached.

use std::fmt::{self, Display};
use std::str::FromStr;

use devices::pci::PciAddress;
use miette::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vfio::{Backend, DeviceRequest, Request};
use vmm::{Class, Problems};

use super::Config;
use crate::grammar::types::{Word, words};

/// A host PCI device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct VfioDevice {
    /// Its address on the host, as `lspci -D` prints it.
    pub(crate) device: Option<Bdf>,
    /// Its node in /dev/vfio/devices, opened by whoever starts vmm, instead of its address.
    pub(crate) fd: Option<u32>,
    /// Insist on one of the kernel's interfaces.
    pub(crate) backend: Option<Interface>,
    /// Put it behind a PCIe root port, where it can be unplugged.
    pub(crate) port: bool,
    /// Let the guest say what of its memory it reaches, through an IOMMU of the guest's own.
    pub(crate) iommu: bool,
}

/// A /dev/iommu that is open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Iommufd {
    /// Its number.
    pub(crate) fd: u32,
}

/// An interface of the kernel to VFIO devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Interface {
    Iommufd,
    Container,
}

/// A PCI device's address on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bdf(pub(crate) PciAddress);

impl FromStr for Bdf {
    type Err = <PciAddress as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Word for Bdf {
    const EXPECTED: &'static str =
        "a PCI address: SEGMENT:BUS:DEVICE.FUNCTION as `lspci -D` prints it, as in 0000:01:00.0 or 01:00.0";
}

words! {
    Bdf: "BDF" { "type": "string", "pattern": "^([0-9a-fA-F]{1,4}:)?[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\\.[0-7]$" };
}

impl From<Interface> for Backend {
    fn from(interface: Interface) -> Self {
        match interface {
            Interface::Iommufd => Self::Iommufd,
            Interface::Container => Self::Container,
        }
    }
}

/// Options that make no sense together.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
enum VfioError {
    #[error("--vfio does not say which device")]
    #[diagnostic(help("give its address, as in --vfio 0000:01:00.0, or its descriptor, as in --vfio fd=5"))]
    NoDevice,
    #[error("--vfio {device},fd={fd} names a device twice")]
    #[diagnostic(help("a descriptor is of one device already: give either"))]
    Both { device: Bdf, fd: u32 },
    #[error("--iommufd is of no use without --vfio")]
    #[diagnostic(help("name the devices that it is for, or leave it out"))]
    NoDevices,
    #[error("file descriptor {0} is given twice")]
    #[diagnostic(help("each device and /dev/iommu has a descriptor of its own"))]
    Twice(u32),
}

impl Config {
    /// The devices to pass through; what makes no sense is reported. Takes over the descriptors that are named.
    pub(crate) fn vfio_request(&self, problems: &mut Problems) -> Request {
        let mut request = Request::default();
        let mut descriptors = Vec::new();
        for typed in &self.vfio {
            let device = match (typed.device, typed.fd) {
                (Some(Bdf(address)), None) => Some(DeviceRequest::at(address)),
                (None, Some(fd)) => problems
                    .keep(Class::Usage, once(fd, &mut descriptors))
                    .and_then(|()| problems.keep(Class::Usage, DeviceRequest::handed(fd))),
                (Some(device), Some(fd)) => problems.keep(Class::Usage, Err(VfioError::Both { device, fd })),
                (None, None) => problems.keep(Class::Usage, Err(VfioError::NoDevice)),
            };
            if let Some(mut device) = device {
                device.backend = typed.backend.map(Backend::from);
                device.port = typed.port;
                device.confined = typed.iommu;
                request.devices.push(device);
            }
        }
        if let Some(Iommufd { fd }) = self.iommufd {
            if self.vfio.is_empty() {
                problems.add(Class::Usage, VfioError::NoDevices);
            } else if problems.keep(Class::Usage, once(fd, &mut descriptors)).is_some() {
                problems.keep(Class::Usage, request.hand_iommufd(fd));
            }
        }
        request
    }
}

/// A number stands for what was handed over until that is taken over.
fn once(fd: u32, taken: &mut Vec<u32>) -> Result<(), VfioError> {
    if taken.contains(&fd) {
        return Err(VfioError::Twice(fd));
    }
    taken.push(fd);
    Ok(())
}

#[cfg(test)]
#[path = "vfio_test.rs"]
mod tests;
