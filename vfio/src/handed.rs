//! File descriptors of VFIO that were opened by whoever started us, and left open: a launcher with rights gives devices
//! to a process without. What a descriptor is, is found through its device number (Documentation/admin-guide/sysfs-rules.rst,
//! /sys/dev/char); a number on a command line may be anything.
//!
//! # Unsafe
//!
//! Descriptors are named by number here. A number is borrowed for calls that are harmless whatever it stands for, and
//! taken over only when it stands for a node of VFIO or iommufd that this process has not opened.
#![expect(unsafe_code, reason = "file descriptors are given by number")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use devices::pci::PciAddress;

use crate::sys;

/// A number that does not stand for what it should.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum HandedError {
    /// Nothing is open there.
    #[error("file descriptor {0} is not open")]
    #[diagnostic(help(
        "whoever starts vmm must leave it open across exec: without O_CLOEXEC, or as a shell does with `{0}<>NODE`"
    ))]
    Closed(u32),

    /// Standard input, output or error.
    #[error("file descriptor {0} is a standard one")]
    #[diagnostic(help("hand over descriptors from 3 on"))]
    Standard(u32),

    /// Something else.
    #[error("file descriptor {fd} is {what}, not {wanted}")]
    #[diagnostic(help("open {wanted} for reading and writing, and do nothing else with it"))]
    Other {
        /// The number.
        fd: u32,
        /// What is open there.
        what: String,
        /// What should be.
        wanted: &'static str,
    },

    /// Not open for reading and writing.
    #[error("file descriptor {fd} ({what}) is not open for reading and writing")]
    #[diagnostic(help("open it with O_RDWR"))]
    Mode {
        /// The number.
        fd: u32,
        /// What is open there.
        what: String,
    },

    /// A VFIO device on another bus.
    #[error("file descriptor {fd} ({what}) is not of a PCI device")]
    #[diagnostic(help("only PCI devices can be passed through"))]
    NotPci {
        /// The number.
        fd: u32,
        /// What is open there.
        what: String,
    },

    /// A cdev that is open for good.
    #[error("file descriptor {fd} of {address} is bound to an iommufd already")]
    #[diagnostic(help("open the device's node, and leave VFIO_DEVICE_BIND_IOMMUFD to vmm"))]
    Bound {
        /// The number.
        fd: u32,
        /// The device.
        address: PciAddress,
    },

    /// The kernel does not say what it is.
    #[error("cannot tell what file descriptor {fd} is")]
    #[diagnostic(help("/sys must be mounted and readable"))]
    Unreadable {
        /// The number.
        fd: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

const CDEV: &str = "a node in /dev/vfio/devices";
const IOMMU: &str = "/dev/iommu";

/// Takes over the cdev of a PCI device.
pub(crate) fn device(fd: u32) -> Result<(PciAddress, File), HandedError> {
    let node = Node::look_at(fd, Path::new("/sys"))?;
    if node.subsystem.as_deref() != Some("vfio-dev") {
        return Err(node.refuse(CDEV));
    }
    let parent = node.device.as_deref().and_then(|device| device.file_name()?.to_str());
    let address = parent.and_then(|name| name.parse().ok());
    let address: PciAddress = address.ok_or_else(|| HandedError::NotPci { fd, what: node.what.clone() })?;
    // A cdev answers nothing before it is bound.
    if sys::device_info(&node.file).is_ok() {
        return Err(HandedError::Bound { fd, address });
    }
    Ok((address, node.take()?))
}

/// Takes over a /dev/iommu.
pub(crate) fn iommufd(fd: u32) -> Result<File, HandedError> {
    let node = Node::look_at(fd, Path::new("/sys"))?;
    if (node.subsystem.as_deref(), node.name.as_deref()) != (Some("misc"), Some("iommu")) {
        return Err(node.refuse(IOMMU));
    }
    node.take()
}

/// What a descriptor stands for.
#[derive(Debug)]
struct Node {
    fd: u32,
    /// The same open file under a number of ours.
    file: File,
    /// As /proc names it.
    what: String,
    /// As sysfs names it, for character devices.
    name: Option<String>,
    subsystem: Option<String>,
    /// What it is a node of.
    device: Option<PathBuf>,
}

impl Node {
    fn look_at(fd: u32, sys: &Path) -> Result<Self, HandedError> {
        if fd <= 2 {
            return Err(HandedError::Standard(fd));
        }
        let file = duplicate(fd)?;
        let unreadable = |source| HandedError::Unreadable { fd, source };
        let metadata = file.metadata().map_err(unreadable)?;
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        let what = fs::read_link(own)
            .map_or_else(|_| "something else".to_owned(), |path| path.display().to_string());
        let mut node = Self { fd, file, what, name: None, subsystem: None, device: None };
        if metadata.file_type().is_char_device() {
            let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
            let path = sys.join(format!("dev/char/{major}:{minor}"));
            // A device that is gone has no entry, and is no device of VFIO.
            let named = |path: PathBuf| {
                fs::canonicalize(path).ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()))
            };
            node.name = named(path.clone());
            node.subsystem = named(path.join("subsystem"));
            node.device = fs::canonicalize(path.join("device")).ok();
        }
        Ok(node)
    }

    fn refuse(self, wanted: &'static str) -> HandedError {
        HandedError::Other { fd: self.fd, what: self.what, wanted }
    }

    /// Makes it ours: no child inherits it, and it is closed with what is returned.
    fn take(self) -> Result<File, HandedError> {
        // SAFETY: F_GETFL takes no argument.
        let flags = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETFL) };
        if flags & libc::O_ACCMODE != libc::O_RDWR {
            return Err(HandedError::Mode { fd: self.fd, what: self.what });
        }
        // SAFETY: it stands for a node that nobody in this process has opened by now: devices are opened after what is
        // asked for has been read, and not by number. So it was inherited, and nobody else closes it.
        drop(unsafe { OwnedFd::from_raw_fd(self.fd as RawFd) });
        Ok(self.file)
    }
}

/// The same open file under another number.
fn duplicate(fd: u32) -> Result<File, HandedError> {
    let number = RawFd::try_from(fd).map_err(|_| HandedError::Closed(fd))?;
    // SAFETY: F_GETFD is harmless for any number; EBADF says that it stands for nothing.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(HandedError::Closed(fd));
    }
    // SAFETY: the descriptor is open, and is only borrowed to be duplicated.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let owned = borrowed.try_clone_to_owned().map_err(|source| HandedError::Unreadable { fd, source })?;
    Ok(File::from(owned))
}

#[cfg(test)]
#[path = "handed_test.rs"]
mod tests;
