//! Handing devices to vfio-pci and giving them back to the host's drivers, through sysfs
//! (Documentation/ABI/testing/sysfs-bus-pci).
//!
//! A device's former driver is written down under /run/vmm/bind before anything is changed. So whoever unbinds it, now
//! or after a crash in the middle, knows what it was like.

mod driver;
mod record;
mod steps;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use devices::pci::PciAddress;
use miette::Diagnostic;

use crate::holders::OpenNodes;
use crate::preflight::PreflightError;
use crate::sysfs::{DiscoverError, Host, HostDevice, is_vfio_driver};
use crate::usage::{self, Use};
use driver::{HostSlot, Slot};
use record::Records;
use steps::Identity;

pub use record::Record;

/// Why a device could not be bound or unbound.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum BindError {
    /// Absent, or sysfs cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Discover(#[from] DiscoverError),

    /// It could not be passed through anyway.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Useless(#[from] PreflightError),

    /// The host uses it.
    #[error("{address} is in use by the host: {}", list(uses))]
    #[diagnostic(help("end that first; `--force` takes the device away all the same"))]
    InUse {
        /// The device.
        address: PciAddress,
        /// In which ways.
        uses: Vec<Use>,
    },

    /// A machine has it open.
    #[error("{address} is passed through: {node} is open in {holders}")]
    #[diagnostic(help(
        "end that first; with `--force` the kernel asks for the device, and waits until it is closed"
    ))]
    Open {
        /// The device.
        address: PciAddress,
        /// Its node, or its group's.
        node: String,
        /// Who.
        holders: String,
    },

    /// vfio-pci is not loaded.
    #[error("the host has no vfio-pci driver")]
    #[diagnostic(help("modprobe vfio-pci"))]
    NoVfioPci,

    /// The driver it is to have is not loaded any more.
    #[error("the driver {driver}, which is to have {address}, is not loaded")]
    #[diagnostic(help("load it (modprobe), and try again"))]
    NoDriver {
        /// The device.
        address: PciAddress,
        /// The driver.
        driver: String,
    },

    /// A driver would not have it.
    #[error("the driver {driver} does not take {address}")]
    #[diagnostic(help("`dmesg | tail` tells what the driver made of it"))]
    Refused {
        /// The device.
        address: PciAddress,
        /// The driver.
        driver: String,
        /// What it said.
        #[source]
        source: io::Error,
    },

    /// A VFIO driver has it again at once.
    #[error("{driver} has taken {address} again")]
    #[diagnostic(help(
        "it is told to take all devices of this kind: see `ids=` in /etc/modprobe.d and on the kernel command line; \
         /sys/bus/pci/drivers/{driver}/remove_id takes that back until the next boot"
    ))]
    TakenAgain {
        /// The device.
        address: PciAddress,
        /// The driver.
        driver: String,
    },

    /// Sysfs cannot be written.
    #[error("cannot write {}", path.display())]
    #[diagnostic(help(
        "binding takes root, and a /sys that is not mounted read-only, as in containers it often is"
    ))]
    Write {
        /// What was written.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },

    /// What the device was like cannot be written down.
    #[error("cannot keep a record at {}", path.display())]
    #[diagnostic(help("binding takes root, and a /run that can be written"))]
    Record {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What became of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The device.
    pub address: PciAddress,
    /// The driver it has now.
    pub driver: Option<String>,
    /// The driver it had, as far as is known.
    pub former: Option<String>,
    /// Whether anything was done.
    pub changed: bool,
}

/// Binds and unbinds devices, alone on this host for as long as it lives.
pub struct Binder {
    host: Host,
    records: Records,
    _lock: File,
}

impl Host {
    /// What a device was like before it was given to vfio-pci, if that was done here and since the last boot.
    pub fn bind_record(&self, device: &HostDevice) -> Option<Record> {
        let record = Records::of(self).read(device.address)?;
        ((record.vendor, record.device) == (device.vendor, device.device)).then_some(record)
    }
}

impl Binder {
    /// Waits until nobody else binds or unbinds.
    pub fn new(host: Host) -> Result<Self, BindError> {
        let records = Records::of(&host);
        let unlocked = |source| BindError::Record { path: records.directory().to_owned(), source };
        let lock = records.lock().map_err(unlocked)?;
        Ok(Self { host, records, _lock: lock })
    }

    /// The devices, and with `whole_groups` those of their IOMMU groups as well, bridges excepted. Ascending.
    pub fn expand(
        &self,
        addresses: &[PciAddress],
        whole_groups: bool,
    ) -> Result<Vec<PciAddress>, Vec<BindError>> {
        let mut errors = Vec::new();
        let mut all = addresses.to_vec();
        for address in addresses {
            match self.host.find(*address) {
                Ok(HostDevice { group: Some(group), .. }) if whole_groups => {
                    all.extend(group.members.iter().filter(|m| !m.is_bridge()).map(|m| m.address));
                }
                Ok(_) => {}
                Err(error) => errors.push(error.into()),
            }
        }
        all.sort_unstable();
        all.dedup();
        if errors.is_empty() { Ok(all) } else { Err(errors) }
    }

    /// What speaks against binding a device; with `force` only what makes it impossible.
    pub fn objections(&self, address: PciAddress, force: bool) -> Vec<BindError> {
        let device = match self.host.find(address) {
            Ok(device) => device,
            Err(error) => return vec![error.into()],
        };
        if device.is_bound_to_vfio() {
            return Vec::new();
        }
        let mut errors = Vec::new();
        if device.is_bridge() {
            errors.push(PreflightError::Bridge(address).into());
        } else if device.group.is_none() {
            let off = !self.host.has_iommu();
            let why = if off { PreflightError::IommuOff } else { PreflightError::NoGroup };
            errors.push(why(address).into());
        }
        if !self.host.has_vfio_pci() {
            errors.push(BindError::NoVfioPci);
        }
        if !force {
            let mut uses = self.host.uses(&device, &OpenNodes::scan(&self.host));
            if uses.is_empty() {
                uses = usage::claimed(&self.host, address);
            }
            if !uses.is_empty() {
                errors.push(BindError::InUse { address, uses });
            }
        }
        errors
    }

    /// Binds a device to vfio-pci, unless a VFIO driver has it already. When that fails it has its former driver again.
    pub fn bind(&self, address: PciAddress) -> Result<Bound, BindError> {
        let (slot, identity) = self.slot(address)?;
        let (former, changed) = steps::hand_over(&slot, identity)?;
        Ok(Bound { address, driver: slot.driver(), former, changed })
    }

    /// What speaks against unbinding a device: a machine that has it.
    pub fn held(&self, address: PciAddress) -> Result<(), BindError> {
        let device = self.host.find(address)?;
        if !device.is_bound_to_vfio() {
            return Ok(());
        }
        let open = OpenNodes::scan(&self.host);
        for path in device.nodes(&self.host) {
            if let Some(holders) = open.of(&path) {
                return Err(BindError::Open { address, node: path.display().to_string(), holders });
            }
        }
        Ok(())
    }

    /// Gives a device back to the driver that it had; to whichever wants it, where that is not known.
    pub fn unbind(&self, address: PciAddress) -> Result<Bound, BindError> {
        let before = self.host.find(address)?.driver;
        let (slot, identity) = self.slot(address)?;
        match steps::give_back(&slot, identity)? {
            (Some(driver), _) if is_vfio_driver(&driver) => Err(BindError::TakenAgain { address, driver }),
            (driver, changed) => {
                self.host.set_mark(address, None);
                Ok(Bound { address, driver, former: before, changed })
            }
        }
    }

    fn slot(&self, address: PciAddress) -> Result<(HostSlot<'_>, Identity), BindError> {
        let HostDevice { vendor, device, .. } = self.host.find(address)?;
        let slot = HostSlot { host: &self.host, records: &self.records, address };
        Ok((slot, Identity { vendor, device }))
    }
}

fn list(uses: &[Use]) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "bind_test.rs"]
mod tests;
