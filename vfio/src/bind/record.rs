//! What a device was like before it was given to VFIO, gone with the next boot as the binding is.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use devices::pci::PciAddress;
use serde::{Deserialize, Serialize};

use super::driver;
use crate::store::Store;
use crate::sysfs::Host;

/// A device before it was given to VFIO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Vendor ID. Another device may come into the slot.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// The driver it had.
    pub driver: Option<String>,
    /// The driver it was meant for by its `driver_override`.
    pub driver_override: Option<String>,
}

/// All records of a host.
#[derive(Clone, Debug)]
pub(super) struct Records(Store<Record>);

impl Records {
    pub(super) fn of(host: &Host) -> Self {
        Self(Store::new(host, "bind"))
    }

    /// Waits until nobody else binds or unbinds; for as long as the file is held.
    pub(super) fn lock(&self) -> io::Result<File> {
        self.0.create()?;
        let path = self.0.directory().join("lock");
        // Not for others to hold up.
        let file = File::options().create(true).append(true).mode(0o600).open(path)?;
        if file.try_lock().is_err() {
            tracing::warn!("another vmm is binding or unbinding a device: waiting for it");
            file.lock()?;
        }
        Ok(file)
    }

    /// A device's record, if there is one that makes sense.
    pub(super) fn read(&self, address: PciAddress) -> Option<Record> {
        let record = self.0.read(address)?;
        let names = [&record.driver, &record.driver_override];
        let sensible = names.into_iter().flatten().all(|name| driver::is_name(name));
        if !sensible {
            tracing::warn!(path = %self.path(address).display(), "ignoring what names no drivers");
        }
        sensible.then_some(record)
    }

    pub(super) fn write(&self, address: PciAddress, record: &Record) -> io::Result<()> {
        self.0.write(address, record)
    }

    pub(super) fn remove(&self, address: PciAddress) -> io::Result<()> {
        self.0.remove(address)
    }

    pub(super) fn path(&self, address: PciAddress) -> PathBuf {
        self.0.path(address)
    }

    pub(super) fn directory(&self) -> &Path {
        self.0.directory()
    }
}
