//! `--vsock`: sockets between programs of guest and host.

use std::path::PathBuf;

use miette::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm::{Class, Problems, VsockServer, VsockSpec};

/// A socket device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Vsock {
    /// The Unix socket that programs of the host connect to, for a port of the guest (`CONNECT 52`). What the guest connects
    /// to is at this path with an underscore and the port behind it.
    #[schemars(extend("x-value" = "PATH"))]
    pub(crate) socket: Option<PathBuf>,
    /// The guest's address, 3 or more. With `vhost` no other guest of the host has it.
    pub(crate) cid: u32,
    /// Instead of a Unix socket, have the kernel serve it (vhost-vsock): programs of the host have sockets of the family AF_VSOCK.
    pub(crate) vhost: bool,
}

impl Default for Vsock {
    fn default() -> Self {
        // The first address that a guest can have.
        Self { socket: None, cid: 3, vhost: false }
    }
}

/// Options that make no sense together.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
enum VsockError {
    #[error("--vsock does not say what it leads to on the host")]
    #[diagnostic(help(
        "give the path of a Unix socket, as in --vsock socket=/run/vm.vsock, or have the kernel serve it: --vsock cid=3,vhost"
    ))]
    Nowhere,
    #[error("--vsock socket={} does not go with `vhost`", .0.display())]
    #[diagnostic(help("the kernel's sockets have a family of their own and no path: leave one of them out"))]
    Both(PathBuf),
}

impl Vsock {
    /// What it means; what makes no sense is reported.
    pub(super) fn spec(&self, problems: &mut Problems) -> Option<VsockSpec> {
        let server = match (&self.socket, self.vhost) {
            (Some(socket), false) => Ok(VsockServer::Bridge(socket.clone())),
            (None, true) => Ok(VsockServer::Kernel),
            (None, false) => Err(VsockError::Nowhere),
            (Some(socket), true) => Err(VsockError::Both(socket.clone())),
        };
        Some(VsockSpec { cid: self.cid, server: problems.keep(Class::Usage, server)? })
    }
}

#[cfg(test)]
#[path = "vsock_test.rs"]
mod tests;
