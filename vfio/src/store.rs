//! What is remembered of devices until the next boot: a small file for each below /run/vmm, there as a whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use devices::pci::PciAddress;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sysfs::Host;

/// No file is larger, in bytes.
const LARGEST: u64 = 4096;

/// A directory of files of one kind, each called by its device's address.
#[derive(Clone, Debug)]
pub(crate) struct Store<T> {
    directory: PathBuf,
    kind: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// The directory `name` below /run/vmm.
    pub(crate) fn new(host: &Host, name: &str) -> Self {
        Self { directory: host.run.join("vmm").join(name), kind: PhantomData }
    }

    /// Makes the directory, if it is not there.
    pub(crate) fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.directory)
    }

    /// What is remembered of a device. What cannot be read or makes no sense is as good as nothing.
    pub(crate) fn read(&self, address: PciAddress) -> Option<T> {
        let path = self.path(address);
        let mut text = Vec::new();
        File::open(&path).ok()?.take(LARGEST).read_to_end(&mut text).ok()?;
        let read = serde_json::from_slice(&text);
        read.inspect_err(
            |error| tracing::warn!(path = %path.display(), %error, "ignoring what makes no sense"),
        )
        .ok()
    }

    /// Remembers this of a device, in place of what was.
    pub(crate) fn write(&self, address: PciAddress, what: &T) -> io::Result<()> {
        let new = self.directory.join(format!("{address}.new"));
        let mut file = File::create(&new)?;
        serde_json::to_writer(&file, what)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, self.path(address))
    }

    /// Forgets what is remembered of a device, if anything is.
    pub(crate) fn remove(&self, address: PciAddress) -> io::Result<()> {
        match fs::remove_file(self.path(address)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A device's file.
    pub(crate) fn path(&self, address: PciAddress) -> PathBuf {
        self.directory.join(address.to_string())
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}
