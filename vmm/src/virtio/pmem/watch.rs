//! Being told that a file behind persistent memory is cut short (inotify(7)). A vCPU that touches what is gone may not tell: KVM has
//! the host fetch the page meanwhile, does not hear that there is none, and tries again for ever (virt/kvm/async_pf.c).
//!
//! Writes of the guest are none of a call on the file, and do not wake anybody here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use devices::virtio::pmem::PmemFile;
use memory::GuestRam;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use super::lost::{self, Lost};

/// Files that are watched.
pub(crate) struct Watch {
    inotify: OwnedFd,
    files: Vec<Arc<PmemFile>>,
}

impl Watch {
    /// Watches them, if there are any.
    ///
    /// # Errors
    /// The user has as many watches as may be (`fs.inotify.max_user_instances`), or the file system has none.
    pub(crate) fn start(files: &[Arc<PmemFile>]) -> io::Result<Option<Self>> {
        if files.is_empty() {
            return Ok(None);
        }
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        for file in files {
            // The file itself, whatever its name refers to by now.
            add_watch(&inotify, format!("/proc/self/fd/{}", file.file().as_raw_fd()), WatchFlags::MODIFY)?;
        }
        Ok(Some(Self { inotify, files: files.to_vec() }))
    }

    /// Readable when somebody has changed one of them by a call.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// The file that was cut short, if that was it.
    pub(crate) fn heed(&self, ram: &GuestRam) -> Option<Lost> {
        // What was done to which file is not looked at, only that something was.
        let mut told = [0_u8; 4096];
        while rustix::io::read(&self.inotify, &mut told).is_ok() {}
        lost::cut_short(&self.files, ram)
    }
}
