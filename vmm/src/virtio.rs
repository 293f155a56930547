//! The virtio devices of a machine: what is asked for, and what of the host is opened for it.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use devices::virtio::VirtioDevice;
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use miette::Diagnostic;
use thiserror::Error;

use crate::listener::{ListenError, Listener};
use crate::problem::{Class, Problems};

/// Addresses that guests can have; those below are taken, the one above stands for any.
const GUEST_CIDS: std::ops::Range<u32> = 3..u32::MAX;
/// Bytes of a Unix socket's path, and of what is appended to it for a port.
const LONGEST_PATH: usize = 107;
const LONGEST_PORT: usize = "_4294967295".len();

/// Virtio devices that a machine is to have.
#[derive(Clone, Debug, Default)]
pub struct VirtioSpec {
    /// An entropy device.
    pub rng: bool,
    /// A socket device.
    pub vsock: Option<VsockSpec>,
}

/// A socket device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VsockSpec {
    /// The guest's address.
    pub cid: u32,
    /// Where clients of the host connect to; with an underscore and a port, what the guest's connections lead to.
    pub socket: PathBuf,
}

/// A device that makes no sense on any host, or cannot be had on this one.
#[derive(Debug, Error, Diagnostic)]
pub enum VirtioError {
    /// An address that is not a guest's.
    #[error("--vsock cid={0} cannot be a guest's address")]
    #[diagnostic(help("give one from 3 to 4294967294, as in --vsock cid=3,socket=/run/vm.vsock"))]
    Cid(u32),
    /// A path to which no port can be appended.
    #[error("--vsock socket={} is too long", .0.display())]
    #[diagnostic(help(
        "the path of a Unix socket has at most {LONGEST_PATH} bytes, and an underscore and the port are appended to this one: \
         give one of {} bytes at most", LONGEST_PATH - LONGEST_PORT
    ))]
    LongSocket(PathBuf),
    /// Nothing can listen there.
    #[error("the guest's vsock cannot have its socket")]
    #[diagnostic(help(
        "give --vsock socket= a path in a directory that is there and can be written, where no other file is"
    ))]
    Socket(#[source] ListenError),
}

impl VirtioSpec {
    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.rng) + usize::from(self.vsock.is_some())
    }

    /// What is wrong with them whatever the host.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        if let Some(VsockSpec { cid, socket }) = &self.vsock {
            if !GUEST_CIDS.contains(cid) {
                problems.add(Class::Usage, VirtioError::Cid(*cid));
            }
            if socket.as_os_str().as_bytes().len() > LONGEST_PATH - LONGEST_PORT {
                problems.add(Class::Usage, VirtioError::LongSocket(socket.clone()));
            }
        }
    }

    /// Opens what they need of the host, in the order in which the guest finds them. What cannot be had is reported.
    pub(crate) fn open(&self, problems: &mut Problems) -> Vec<Arc<dyn VirtioDevice>> {
        let mut devices: Vec<Arc<dyn VirtioDevice>> = Vec::new();
        if self.rng {
            devices.push(Arc::new(Rng));
        }
        if let Some(VsockSpec { cid, socket }) = &self.vsock
            && let Some(listener) =
                problems.keep(Class::Usage, Listener::at(socket).map_err(VirtioError::Socket))
        {
            devices.push(Arc::new(Vsock::new(*cid, listener, socket.clone())));
        }
        devices
    }
}

#[cfg(test)]
#[path = "virtio_test.rs"]
mod tests;
