//! `--sandbox`: what the process keeps itself from.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use miette::Diagnostic;
use sandbox::{Confinement, IdentityError, Reach, SandboxError, Use, User};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm::console::terminal;
use vmm::{Class, Problem, Problems};

use super::{Config, Initrd};
use crate::stderr::say;

/// How it confines itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Sandbox {
    /// Whether it does at all.
    pub(crate) mode: Mode,
    /// Go on as this user, or UID, whom root has given the nodes of devices; in no group but its own or the one named.
    #[schemars(extend("x-value" = "USER[:GROUP]"))]
    pub(crate) user: Option<String>,
    /// Make this directory the root directory, before anything is opened. It needs a /proc, a /sys and the nodes of /dev that the machine uses.
    #[schemars(extend("x-value" = "DIR"))]
    pub(crate) chroot: Option<PathBuf>,
    /// Reach no files, from the start on, but those of the configuration, those of the host that a machine needs, and these,
    /// such as directories of images that clients of the API may name.
    #[schemars(extend("x-value" = "PATH"))]
    pub(crate) allow: Vec<PathBuf>,
}

/// Whether vmm confines itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    #[default]
    On,
    Off,
}

/// Why vmm does not run confined.
#[derive(Debug, Error, Diagnostic)]
enum NoSandbox {
    #[error("--sandbox off goes with nothing else")]
    #[diagnostic(help("leave `off` out, or the rest"))]
    OffAnd,
    #[error("cannot tell whom --sandbox means by user={text}")]
    #[diagnostic(help("give the name of a user of this host, or numbers, as in user=104:108"))]
    User {
        text: String,
        #[source]
        source: IdentityError,
    },
    #[error("vmm cannot confine itself as --sandbox says")]
    #[diagnostic(help(
        "user= and chroot= are for vmm that is started by root, and chroot= takes a directory"
    ))]
    Identity(#[source] IdentityError),
    #[error("vmm cannot confine itself")]
    #[diagnostic(help(
        "the kernel needs CONFIG_SECCOMP_FILTER; if a filter of a container is in the way, let it allow seccomp(2). \
         `--sandbox off` runs without"
    ))]
    Kernel(#[source] SandboxError),
}

impl Sandbox {
    /// Confines this process, before there are other threads and before anything of a guest is looked at. `reach` is what the
    /// configuration names. Who asks for no sandbox is told what that means.
    pub(crate) fn arm(&self, reach: Reach) -> Result<(), Problems> {
        let Self { mode, user, chroot, allow } = self;
        if *mode == Mode::Off {
            if *self != (Self { mode: Mode::Off, ..Self::default() }) {
                return Err(Problem::of(Class::Usage)(NoSandbox::OffAnd));
            }
            say!(
                "warning: --sandbox off: a guest that takes vmm over may do all that this user may do on the host\n"
            );
            return Ok(());
        }
        let user = user
            .as_ref()
            .map(|text| User::find(text).map_err(|source| NoSandbox::User { text: text.clone(), source }));
        let confinement = Confinement {
            root: chroot.clone(),
            user: user.transpose().map_err(Problem::of(Class::Usage))?,
            reach: (!allow.is_empty())
                .then(|| allow.iter().fold(reach, |reach, path| reach.and(path, Use::Make))),
        };
        sandbox::arm(&confinement, terminal::restore).map_err(|error| match error {
            SandboxError::Identity(error) => Problem::of(Class::Host)(NoSandbox::Identity(error)),
            error => Problem::of(Class::Host)(NoSandbox::Kernel(error)),
        })
    }
}

/// What any machine may need of the host.
pub(crate) fn host() -> Reach {
    let nodes =
        ["kvm", "vfio", "iommu", "net/tun", "vhost-net", "vhost-vsock", "udmabuf", "null", "ptmx", "pts"];
    let reach = [
        "/proc",
        "/sys",
        "/boot",
        "/lib/modules",
        "/etc/machine-id",
        "/dev/kmsg",
        "/dev/urandom",
        "/dev/random",
    ]
    .iter()
    .fold(Reach::nothing(), |reach, path| reach.and(path, Use::Read));
    let reach = nodes.iter().fold(reach, |reach, node| reach.and(Path::new("/dev").join(node), Use::Write));
    // What root may do about memory that cannot be moved.
    let reach =
        ["/proc/sys/vm/compact_memory", "/sys/devices/system/node", "/sys/kernel/debug/split_huge_pages"]
            .iter()
            .fold(reach, |reach, path| reach.and(path, Use::Write));
    // Locks and marks of vmm's own.
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|run| Path::new(&run).join("vmm"));
    let reach = own.into_iter().fold(reach.and("/run/vmm", Use::Own), |reach, own| reach.and(own, Use::Own));
    // Pin helpers are this very binary.
    reach.and("/proc/self/exe", Use::Execute)
}

impl Config {
    /// The files of a machine, and what it may need of the host.
    pub(crate) fn reach(&self, kernel: Option<&Path>) -> Reach {
        let mut reach = host();
        let initrd = match self.initrd() {
            Initrd::File(path) => Some(path),
            Initrd::BuiltIn | Initrd::None => None,
        };
        for path in kernel.into_iter().chain(initrd) {
            reach = reach.and(path, Use::Read);
        }
        for disk in &self.disk {
            let Some(path) = &disk.path else { continue };
            reach = reach.and(path, if disk.ro { Use::Read } else { Use::Write });
            if disk.backing {
                // Usually they are beside it; others are for `allow`.
                reach = reach.and_where(path, Use::Read);
            }
        }
        for pmem in &self.pmem {
            reach = reach.and(&pmem.path, if pmem.ro { Use::Read } else { Use::Write });
        }
        let output = self.console.iter().filter_map(|port| port.file.as_deref());
        for path in output.chain(self.events.as_ref().and_then(|events| events.path.as_deref())) {
            reach = reach.and(path, Use::Append);
        }
        for path in self.report.iter().chain(&self.metrics) {
            reach = reach.and_where(path, Use::Replace);
        }
        self.made().fold(reach, |reach, path| reach.and_where(path, Use::Bind))
    }

    /// What its main thread still reaches when all is open and nobody can ask for more: the state of devices and of its own threads,
    /// and what it has made and removes. `None` while clients may ask.
    pub(crate) fn settled(&self, clients: bool) -> Option<Reach> {
        let looks = Reach::nothing().and("/proc", Use::Read).and("/sys", Use::Read);
        (!clients).then(|| self.made().fold(looks, |reach, path| reach.and_where(path, Use::Remove)))
    }

    /// Sockets and links.
    fn made(&self) -> impl Iterator<Item = &Path> {
        let api = self.api_socket.as_deref().filter(|text| !text.starts_with("fd=")).map(Path::new);
        let console =
            self.console.iter().flat_map(|port| [port.socket.as_deref(), port.pty.as_deref()]).flatten();
        let vsock = self.vsock.iter().filter_map(|vsock| vsock.socket.as_deref());
        console.chain(vsock).chain(api)
    }
}

#[cfg(test)]
#[path = "sandbox_test.rs"]
mod tests;
