//! A guest's socket device: its address, and what leads to it: a Unix socket, or the kernel.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use devices::virtio::VirtioDevice;
use devices::virtio::vsock::{VhostVsock, Vsock};
use miette::Diagnostic;
use thiserror::Error;

use crate::listener::{ListenError, Listener};
use crate::problem::{Class, Problems};

/// Addresses that guests can have; those below are taken, the one above stands for any.
const GUEST_CIDS: std::ops::Range<u32> = 3..u32::MAX;
/// Bytes of a Unix socket's path, and of what is appended to it for a port.
const LONGEST_PATH: usize = 107;
const LONGEST_PORT: usize = "_4294967295".len();

/// A socket device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VsockSpec {
    /// The guest's address.
    pub cid: u32,
    /// The host's side of it.
    pub server: VsockServer,
}

/// Who serves a socket device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VsockServer {
    /// We do. Clients of the host connect to the Unix socket at this path; with an underscore and a port, it is what the guest's
    /// connections lead to.
    Bridge(PathBuf),
    /// The kernel (vhost-vsock): programs of the host have sockets of the family AF_VSOCK.
    Kernel,
}

/// A device that makes no sense on any host, or cannot be had on this one.
#[derive(Debug, Error, Diagnostic)]
pub enum VsockError {
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
    /// Guests know no second one.
    #[error("a machine cannot have two vsocks")]
    #[diagnostic(help(
        "remove the first one, if it was added while the machine runs; programs tell connections apart by their ports"
    ))]
    Second,
    /// Nothing can listen there.
    #[error("the guest's vsock cannot have its socket")]
    #[diagnostic(help(
        "give --vsock socket= a path in a directory that is there and can be written, where no other file is"
    ))]
    Socket(#[source] ListenError),
}

impl VsockSpec {
    /// What is wrong with it whatever the host.
    pub(super) fn validate(&self, problems: &mut Problems) {
        if !GUEST_CIDS.contains(&self.cid) {
            problems.add(Class::Usage, VsockError::Cid(self.cid));
        }
        if let VsockServer::Bridge(socket) = &self.server
            && socket.as_os_str().as_bytes().len() > LONGEST_PATH - LONGEST_PORT
        {
            problems.add(Class::Usage, VsockError::LongSocket(socket.clone()));
        }
    }

    /// Takes its socket, or its address. What is wrong is reported.
    pub(super) fn open(&self, problems: &mut Problems) -> Option<Arc<dyn VirtioDevice>> {
        // The kernel would say of an address that is none what was said of it already.
        if !GUEST_CIDS.contains(&self.cid) {
            return None;
        }
        match &self.server {
            VsockServer::Bridge(socket) => {
                let listener = Listener::at(socket).map_err(VsockError::Socket);
                let listener = problems.keep(Class::Usage, listener)?;
                Some(Arc::new(Vsock::new(self.cid, listener, socket.clone())))
            }
            VsockServer::Kernel => Some(Arc::new(problems.keep(Class::Host, VhostVsock::open(self.cid))?)),
        }
    }
}

#[cfg(test)]
#[path = "vsock_test.rs"]
mod tests;
