//! A device and its driver: the files of sysfs through which one is taken off and another put on
//! (Documentation/ABI/testing/sysfs-bus-pci: `driver_override`, `bind`, `unbind`, `drivers_probe`).

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use devices::pci::PciAddress;

use super::BindError;
use super::record::{Record, Records};
use crate::sysfs::{DiscoverError, Host, link_name};
use crate::text;

/// The longest name of a driver that is believed.
const LONGEST: usize = 255;

/// What can be done to a device, each at once and for good.
pub(super) trait Slot {
    /// The driver bound to it.
    fn driver(&self) -> Option<String>;
    /// The only driver that may bind to it.
    fn driver_override(&self) -> Result<Option<String>, BindError>;
    /// Has only this driver bind to it; `None`: whichever wants it.
    fn set_override(&self, driver: Option<&str>) -> Result<(), BindError>;
    /// Takes this driver off it.
    fn detach(&self, driver: &str) -> Result<(), BindError>;
    /// Puts this driver on it.
    fn attach(&self, driver: &str) -> Result<(), BindError>;
    /// Puts that driver on it which wants it, if any does.
    fn probe(&self) -> Result<(), BindError>;
    /// What it was like before VFIO had it.
    fn record(&self) -> Option<Record>;
    /// Writes that down.
    fn write_record(&self, record: &Record) -> Result<(), BindError>;
    /// Forgets it.
    fn remove_record(&self) -> Result<(), BindError>;
}

/// A device of a host.
pub(super) struct HostSlot<'a> {
    pub(super) host: &'a Host,
    pub(super) records: &'a Records,
    pub(super) address: PciAddress,
}

/// Whether something can be a driver's name, and a component of a path.
pub(super) fn is_name(name: &str) -> bool {
    let plain = !name.is_empty() && name.len() <= LONGEST && !matches!(name, "." | "..");
    plain && !name.chars().any(|c| c == '/' || c.is_control())
}

impl HostSlot<'_> {
    fn drivers(&self) -> PathBuf {
        self.host.sys.join("bus/pci/drivers")
    }

    fn override_path(&self) -> PathBuf {
        self.host.device_path(self.address).join("driver_override")
    }

    fn unrecorded(&self) -> impl Fn(io::Error) -> BindError {
        let path = self.records.path(self.address);
        move |source| BindError::Record { path: path.clone(), source }
    }
}

impl Slot for HostSlot<'_> {
    fn driver(&self) -> Option<String> {
        link_name(&self.host.device_path(self.address).join("driver")).filter(|name| is_name(name))
    }

    fn driver_override(&self) -> Result<Option<String>, BindError> {
        let path = self.override_path();
        let text = text::read(&path).map_err(|source| DiscoverError::Read { path, source })?;
        let name = text.trim_end();
        Ok((name != "(null)" && is_name(name)).then(|| name.to_owned()))
    }

    fn set_override(&self, driver: Option<&str>) -> Result<(), BindError> {
        write(self.override_path(), driver.unwrap_or_default())
    }

    fn detach(&self, driver: &str) -> Result<(), BindError> {
        write(self.drivers().join(driver).join("unbind"), &self.address.to_string())
    }

    fn attach(&self, driver: &str) -> Result<(), BindError> {
        // `drivers_probe` would keep to itself what the driver says when it refuses.
        let path = self.drivers().join(driver).join("bind");
        let address = self.address;
        put(&path, &address.to_string()).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => BindError::Write { path, source },
            io::ErrorKind::NotFound => BindError::NoDriver { address, driver: driver.to_owned() },
            _ => BindError::Refused { address, driver: driver.to_owned(), source },
        })
    }

    fn probe(&self) -> Result<(), BindError> {
        write(self.host.sys.join("bus/pci/drivers_probe"), &self.address.to_string())
    }

    fn record(&self) -> Option<Record> {
        self.records.read(self.address)
    }

    fn write_record(&self, record: &Record) -> Result<(), BindError> {
        self.records.write(self.address, record).map_err(self.unrecorded())
    }

    fn remove_record(&self) -> Result<(), BindError> {
        self.records.remove(self.address).map_err(self.unrecorded())
    }
}

fn write(path: PathBuf, text: &str) -> Result<(), BindError> {
    put(&path, text).map_err(|source| BindError::Write { path, source })
}

/// A line in one write, as sysfs wants it. The file must be there.
fn put(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(format!("{text}\n").as_bytes())
}
