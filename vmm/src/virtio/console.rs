//! A guest's virtio console: its ports, and what of the host they lead to.

use std::any::Any;
use std::borrow::Borrow;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::virtio::console::{Backend, Console, LONGEST_NAME, MOST_PORTS, PortOptions};
use miette::Diagnostic;
use thiserror::Error;

use crate::console::open::PseudoTerminal;
use crate::listener::{ListenError, Listener};
use crate::problem::{Class, Problems};

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// What programs of the guest find it by. Without, it is a console.
    pub name: Option<String>,
    /// Where it leads to.
    pub to: PortTarget,
}

/// Where a port leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortTarget {
    /// Output is appended to this file.
    File(PathBuf),
    /// A new pseudo-terminal, to which this path is made a symbolic link.
    Pty(PathBuf),
    /// A Unix socket, for one client at a time.
    Socket(PathBuf),
}

/// A port that makes no sense on any host, or cannot be had on this one.
#[derive(Debug, Error, Diagnostic)]
pub enum PortError {
    /// More than a device may have.
    #[error("{0} ports of --console are more than the {MOST_PORTS} that a virtio console can have")]
    #[diagnostic(help("leave some out"))]
    TooMany(usize),
    /// No name for a port.
    #[error("--console name={0} cannot be the name of a port")]
    #[diagnostic(help(
        "give 1 to {LONGEST_NAME} letters, digits, dots, hyphens and underscores, as in org.qemu.guest_agent.0"
    ))]
    Name(String),
    /// Two ports of one name.
    #[error("two ports of --console are called {0}")]
    #[diagnostic(help("programs of the guest find ports by their names: give each another one"))]
    Twice(String),
    /// Nothing can listen there.
    #[error("a port of the virtio console cannot have its socket")]
    #[diagnostic(help(
        "give --console socket= a path in a directory that is there and can be written, where no other file is"
    ))]
    Socket(#[source] ListenError),
    /// A file that cannot be written.
    #[error("cannot write a port of the virtio console to {}", path.display())]
    #[diagnostic(help("check the path of --console file= and its permissions"))]
    File {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No pseudo-terminal, or no link to it.
    #[error("cannot make a pseudo-terminal for the virtio console at {}", path.display())]
    #[diagnostic(help(
        "give --console pty= a path in a directory that is there and can be written, where no other file is; devpts must be mounted"
    ))]
    Pty {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The device itself.
    #[error("cannot make the virtio console")]
    #[diagnostic(help("the process may have too many open files: raise `ulimit -n`"))]
    Device(#[source] io::Error),
}

/// What is wrong with ports whatever the host.
pub(super) fn validate(ports: &[PortSpec], problems: &mut Problems) {
    if ports.len() > MOST_PORTS {
        problems.add(Class::Usage, PortError::TooMany(ports.len()));
    }
    let names: Vec<&String> = ports.iter().filter_map(|port| port.name.as_ref()).collect();
    for (place, name) in names.iter().enumerate() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
            problems.add(Class::Usage, PortError::Name((*name).clone()));
        }
        if names.iter().take(place).any(|before| before == name) {
            problems.add(Class::Usage, PortError::Twice((*name).clone()));
        }
    }
}

/// Opens what the ports lead to. `None`: there are none, or something is wrong, which is reported.
pub(super) fn open(ports: &[PortSpec], problems: &mut Problems) -> Option<Arc<Console>> {
    let options: Vec<_> = ports.iter().filter_map(|port| problems.keep(Class::Usage, port.open())).collect();
    if options.is_empty() || options.len() < ports.len() {
        return None;
    }
    problems.keep(Class::Host, Console::new(options).map_err(PortError::Device)).map(Arc::new)
}

impl PortSpec {
    fn open(&self) -> Result<PortOptions, PortError> {
        let (backend, kept): (_, Box<dyn Any + Send + Sync>) = match &self.to {
            PortTarget::File(path) => {
                let failed = |source| PortError::File { path: path.clone(), source };
                let file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
                (Backend::File(file), Box::new(()))
            }
            PortTarget::Socket(path) => {
                let listener = Listener::at(path).map_err(PortError::Socket)?;
                let socket = Borrow::<UnixListener>::borrow(&listener).try_clone();
                (Backend::Socket(socket.map_err(PortError::Device)?), Box::new(listener))
            }
            PortTarget::Pty(path) => {
                let failed = |source| PortError::Pty { path: path.clone(), source };
                let PseudoTerminal { master, held, path: terminal } =
                    PseudoTerminal::open().map_err(failed)?;
                let link = Link::make(path, terminal).map_err(failed)?;
                (Backend::Terminal(master), Box::new((link, held)))
            }
        };
        Ok(PortOptions { name: self.name.clone(), backend, kept })
    }
}

/// A symbolic link to a pseudo-terminal. Dropping it removes it, if it is still this one.
struct Link {
    path: PathBuf,
    terminal: PathBuf,
}

impl Link {
    /// Makes it. One that a process left there when it was killed is replaced; anything else stays.
    fn make(path: &Path, terminal: PathBuf) -> io::Result<Self> {
        if path.read_link().is_ok_and(|target| target.starts_with("/dev/pts")) {
            std::fs::remove_file(path)?;
        }
        std::os::unix::fs::symlink(&terminal, path)?;
        Ok(Self { path: path.to_owned(), terminal })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let own = self.path.read_link().is_ok_and(|target| target == self.terminal);
        if own && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a link to a pseudo-terminal stays behind");
        }
    }
}

#[cfg(test)]
#[path = "console_test.rs"]
mod tests;
