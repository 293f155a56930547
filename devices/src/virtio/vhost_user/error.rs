//! What is in the way of a daemon's help.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

/// Why a daemon cannot serve a device.
#[derive(Debug, Error, Diagnostic)]
pub enum DaemonError {
    /// No such path.
    #[error("there is no socket {}", .0.display())]
    #[diagnostic(help("start the vhost-user daemon first, and give the path that it listens at"))]
    Missing(PathBuf),
    /// Something else.
    #[error("{} is not a socket", .0.display())]
    #[diagnostic(help("give the path of the Unix socket that a vhost-user daemon listens at"))]
    NoSocket(PathBuf),
    /// Not for us.
    #[error("no permission to connect to {}", .0.display())]
    #[diagnostic(help(
        "whoever connects needs to be allowed to write to the socket: start vmm as the daemon's user, or change the owner"
    ))]
    Permission(PathBuf),
    /// Left behind.
    #[error("nobody listens at {}", .0.display())]
    #[diagnostic(help("the vhost-user daemon has ended and left its socket behind: start it again"))]
    Ended(PathBuf),
    /// It has others in the queue.
    #[error("the daemon at {} takes no more connections", .0.display())]
    #[diagnostic(help(
        "a daemon serves one machine at a time: give each machine a daemon and a socket of its own"
    ))]
    Busy(PathBuf),
    /// Anything else about a connection.
    #[error("cannot connect to {}", path.display())]
    #[diagnostic(help("a vhost-user daemon is to listen there, at a path of at most 107 bytes"))]
    Connect {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It does not answer.
    #[error("the daemon at {} did not answer within {patience:?}, asked for {step}", path.display())]
    #[diagnostic(help(
        "if it serves another machine, give this one a daemon of its own; if not, it hangs, or is no vhost-user daemon"
    ))]
    Silent {
        /// Its socket.
        path: PathBuf,
        /// What was asked for.
        step: &'static str,
        /// How long was waited.
        patience: Duration,
    },
    /// It went away.
    #[error("the daemon at {} closed the connection, asked for {step}", path.display())]
    #[diagnostic(help(
        "its own messages say why; some serve a single connection and are to be started anew for each machine"
    ))]
    Closed {
        /// Its socket.
        path: PathBuf,
        /// What was asked for.
        step: &'static str,
    },
    /// It says what no daemon says.
    #[error("the daemon at {} gives no sensible answer, asked for {step}", path.display())]
    #[diagnostic(help(
        "is it a vhost-user daemon, and for this kind of device? Its own messages may say more"
    ))]
    Nonsense {
        /// Its socket.
        path: PathBuf,
        /// What was asked for.
        step: &'static str,
        /// What is wrong.
        #[source]
        source: vhost::Error,
    },
    /// It is of long ago.
    #[error("the daemon at {} does not know {missing}", path.display())]
    #[diagnostic(help("it is too old for vmm, or serves another kind of device"))]
    Lacks {
        /// Its socket.
        path: PathBuf,
        /// What it needs to know.
        missing: &'static str,
    },
    /// Too few queues.
    #[error("the daemon at {} serves {served} queues, the device is to have {wanted}", path.display())]
    #[diagnostic(help("ask for fewer with `queues`, or start the daemon with more"))]
    Queues {
        /// Its socket.
        path: PathBuf,
        /// How many it serves.
        served: u64,
        /// How many there are to be.
        wanted: u64,
    },
    /// It has changed.
    #[error("the daemon at {} lacks features that the guest's driver relies on: {missing:#x}", path.display())]
    #[diagnostic(help("start one that offers what the one before did"))]
    Changed {
        /// Its socket.
        path: PathBuf,
        /// Feature bits that the driver accepted and it does not offer.
        missing: u64,
    },
    /// A configuration that no such device has.
    #[error("the daemon at {} describes a device that cannot be: {what}", path.display())]
    #[diagnostic(help("is it a daemon for this kind of device?"))]
    Config {
        /// Its socket.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// More pieces of memory than a daemon takes.
    #[error("guest memory is in {regions} pieces, the daemon at {} takes {most}", path.display())]
    #[diagnostic(help(
        "the IOMMU's reserved ranges divide it: give the guest less memory, or no passed-through device"
    ))]
    Regions {
        /// Its socket.
        path: PathBuf,
        /// How many there are.
        regions: usize,
        /// How many may be.
        most: usize,
    },
    /// The host has no more of something.
    #[error("the host lacks descriptors or threads for the daemon at {}", path.display())]
    #[diagnostic(help("raise `ulimit -n` or `ulimit -u`"))]
    Host {
        /// Its socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl DaemonError {
    pub(super) fn connect(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Self::Missing(path),
            Some(libc::EACCES | libc::EPERM) => Self::Permission(path),
            Some(libc::EPROTOTYPE) => Self::NoSocket(path),
            // A file that is no socket is refused in the same words.
            Some(libc::ECONNREFUSED) if !is_socket(&path) => Self::NoSocket(path),
            Some(libc::ECONNREFUSED) => Self::Ended(path),
            Some(libc::EAGAIN) => Self::Busy(path),
            _ => Self::Connect { path, source },
        }
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}
