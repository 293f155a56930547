//! Which devices a machine is to have, and how they are to be reached.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use devices::pci::PciAddress;

use crate::dma::Backend;
use crate::handed::{self, HandedError};

/// A device to pass through.
#[derive(Clone, Debug)]
pub struct DeviceRequest {
    /// Where it is on the host.
    pub address: PciAddress,
    /// Through which interface; `None` for the best there is.
    pub backend: Option<Backend>,
    /// Whether the guest is to have it behind a root port, where it can be unplugged.
    pub port: bool,
    /// Whether the guest says what of its memory the device reaches.
    pub confined: bool,
    /// Its node in /dev/vfio/devices, opened by whoever started us.
    pub(crate) opened: Option<Arc<File>>,
}

impl DeviceRequest {
    /// The device at this address.
    pub fn at(address: PciAddress) -> Self {
        Self { address, backend: None, port: false, confined: false, opened: None }
    }

    /// The device whose node was opened by whoever started us, as file descriptor `fd`. Takes the descriptor over.
    pub fn handed(fd: u32) -> Result<Self, HandedError> {
        let (address, file) = handed::device(fd)?;
        Ok(Self { opened: Some(Arc::new(file)), ..Self::at(address) })
    }
}

/// All devices of a machine.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The devices, in the order in which the guest sees them.
    pub devices: Vec<DeviceRequest>,
    /// /dev/iommu, opened by whoever started us.
    pub(crate) iommufd: Option<Arc<File>>,
    /// The devices that the machine has already.
    pub(crate) company: Option<Company>,
}

/// What devices that come later share with those that a machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Company {
    /// Through which interface they are reached.
    pub(crate) backend: Backend,
    /// Their IOMMU groups, which are open.
    pub(crate) groups: BTreeSet<u32>,
}

impl Request {
    /// The devices at these addresses.
    pub fn at(addresses: &[PciAddress]) -> Self {
        let devices = addresses.iter().copied().map(DeviceRequest::at).collect();
        Self { devices, ..Self::default() }
    }

    /// Has the devices share the address space of those that are there.
    pub fn join(&mut self, company: Company) {
        self.company = Some(company);
    }

    /// Has them use the /dev/iommu that was opened by whoever started us, as file descriptor `fd`. Takes it over.
    pub fn hand_iommufd(&mut self, fd: u32) -> Result<(), HandedError> {
        self.iommufd = Some(Arc::new(handed::iommufd(fd)?));
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Their addresses.
    pub fn addresses(&self) -> Vec<PciAddress> {
        self.devices.iter().map(|device| device.address).collect()
    }

    /// The addresses of those that the guest confines.
    pub fn confined(&self) -> Vec<PciAddress> {
        self.devices.iter().filter(|device| device.confined).map(|device| device.address).collect()
    }

    /// The addresses of the others, which reach all of its memory.
    pub fn unconfined(&self) -> Vec<PciAddress> {
        self.devices.iter().filter(|device| !device.confined).map(|device| device.address).collect()
    }

    /// Which interface is insisted on, if any is: all of a machine's devices share one.
    pub fn backend(&self) -> Result<Option<Backend>, RequestError> {
        let mut wishes: Vec<(String, Backend)> = Vec::new();
        for DeviceRequest { address, backend, opened, .. } in &self.devices {
            wishes.extend(backend.map(|backend| (address.to_string(), backend)));
            wishes.extend(opened.iter().map(|_| (format!("the descriptor of {address}"), Backend::Iommufd)));
        }
        wishes.extend(self.iommufd.iter().map(|_| ("--iommufd".to_owned(), Backend::Iommufd)));
        let company = self.company.iter();
        wishes.extend(company.map(|company| ("the rest of the machine".to_owned(), company.backend)));
        let wish = |backend| wishes.iter().find(|(_, wish)| *wish == backend).map(|(who, _)| who.clone());
        match (wish(Backend::Iommufd), wish(Backend::Container)) {
            (Some(iommufd), Some(container)) => Err(RequestError::Mixed { iommufd, container }),
            (iommufd, container) => {
                Ok(iommufd.map(|_| Backend::Iommufd).or(container.map(|_| Backend::Container)))
            }
        }
    }
}

/// A wish that makes no sense on any host.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RequestError {
    /// Two address spaces would pin, and count, all memory twice.
    #[error(
        "{container} asks for a container, {iommufd} for iommufd: all devices of a machine share one of them"
    )]
    #[diagnostic(help(
        "give all the same `backend=`, or none: the best there is is used; descriptors that were handed over work with \
         iommufd only"
    ))]
    Mixed {
        /// What asks for iommufd.
        iommufd: String,
        /// What asks for a container.
        container: String,
    },
}

#[cfg(test)]
#[path = "request_test.rs"]
mod tests;
