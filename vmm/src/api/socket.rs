//! Where the API listens: a path in the file system, which only the owner may connect to, or a socket that was handed
//! in.
//!
//! # Unsafe
//! A descriptor that was handed in is known by its number only.
#![expect(unsafe_code, reason = "a descriptor from the command line is adopted by its number")]

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use miette::Diagnostic;
use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use thiserror::Error;

/// Connections that may wait to be taken.
const BACKLOG: i32 = 128;

/// Where to listen, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiSocket {
    /// A path.
    Path(PathBuf),
    /// The number of a descriptor of a listening Unix socket.
    Descriptor(i32),
}

/// Why the API cannot listen.
#[derive(Debug, Error, Diagnostic)]
pub enum SocketError {
    /// Neither a path nor a descriptor.
    #[error("--api-socket `{0}` is neither a path nor a descriptor")]
    #[diagnostic(help("give a path, or the number of a listening socket, as in --api-socket fd=3"))]
    Syntax(String),
    /// Another file is there.
    #[error("cannot listen at {}: {what} is there", path.display())]
    #[diagnostic(help("remove it, or give another path"))]
    Taken {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// Somebody listens there.
    #[error("cannot listen at {}: another process does", .0.display())]
    #[diagnostic(help("each machine needs a socket of its own: give another path"))]
    InUse(PathBuf),
    /// Anything else about a path.
    #[error("cannot listen at {}", path.display())]
    #[diagnostic(help("the directory must be there and be writable, the path at most 107 bytes long"))]
    Path {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A descriptor that is not what it should be.
    #[error("descriptor {fd} cannot serve the API: {why}")]
    #[diagnostic(help(
        "it must be a Unix stream socket that listens, as systemd hands one in from number 3 on"
    ))]
    Descriptor {
        /// Its number.
        fd: i32,
        /// What is wrong with it.
        why: String,
    },
}

impl FromStr for ApiSocket {
    type Err = SocketError;

    /// `PATH`, `path=PATH` or `fd=N`.
    fn from_str(text: &str) -> Result<Self, SocketError> {
        let path = match text.split_once('=') {
            Some(("fd", number)) => {
                let number = number.parse().ok().filter(|number| *number > 2);
                return number.map(Self::Descriptor).ok_or_else(|| SocketError::Syntax(text.to_owned()));
            }
            Some(("path", path)) => path,
            _ => text,
        };
        match path {
            "" => Err(SocketError::Syntax(text.to_owned())),
            path => Ok(Self::Path(path.into())),
        }
    }
}

/// A listening socket. Dropping it removes its path, if that is still its own.
#[derive(Debug)]
pub struct ApiListener {
    listener: UnixListener,
    place: Option<Place>,
}

/// A socket's path, and which file it is.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    file: (u64, u64),
}

impl ApiListener {
    /// Listens at `socket`.
    pub fn open(socket: &ApiSocket) -> Result<Self, SocketError> {
        match socket {
            ApiSocket::Path(path) => Self::at(path),
            ApiSocket::Descriptor(fd) => Self::adopt(*fd),
        }
    }

    /// Another handle on the listening socket.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    fn at(path: &Path) -> Result<Self, SocketError> {
        let failed = |source: io::Error| SocketError::Path { path: path.to_owned(), source };
        // Two that start at one time must not both take a left-over socket away.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = File::open(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        flock(&directory, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        clear(path)?;
        let listener = bind_at(path).map_err(failed)?;
        let metadata = path.symlink_metadata().map_err(failed)?;
        Ok(Self { listener, place: Some(Place { path: path.to_owned(), file: identity(&metadata) }) })
    }

    fn adopt(number: i32) -> Result<Self, SocketError> {
        let unfit = |why: String| SocketError::Descriptor { fd: number, why };
        // SAFETY: borrowed for this call alone, which fails on a number that is not open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let flags = rustix::io::fcntl_getfd(borrowed).map_err(|error| unfit(error.to_string()))?;
        rustix::io::fcntl_setfd(borrowed, flags | rustix::io::FdFlags::CLOEXEC)
            .map_err(|error| unfit(error.to_string()))?;
        let domain = socket_domain(borrowed).map_err(|error| unfit(error.to_string()))?;
        if domain != AddressFamily::UNIX {
            return Err(unfit("it is not a Unix socket".to_owned()));
        }
        if !socket_acceptconn(borrowed).map_err(|error| unfit(error.to_string()))? {
            return Err(unfit("it does not listen".to_owned()));
        }
        // SAFETY: it is open, and whoever named it on the command line gave it away; nothing else here uses it.
        let owned = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self { listener: owned.into(), place: None })
    }
}

impl Drop for ApiListener {
    fn drop(&mut self) {
        let Some(place) = &self.place else { return };
        // Whatever took its place since is somebody else's.
        let own = place.path.symlink_metadata().is_ok_and(|metadata| identity(&metadata) == place.file);
        if own && let Err(error) = std::fs::remove_file(&place.path) {
            tracing::warn!(path = %place.path.display(), %error, "the API's socket stays behind");
        }
    }
}

/// Removes a socket that a process left behind when it was killed. Follows no symbolic link.
fn clear(path: &Path) -> Result<(), SocketError> {
    let taken = |what| Err(SocketError::Taken { path: path.to_owned(), what });
    let failed = |source: io::Error| SocketError::Path { path: path.to_owned(), source };
    let kind = match path.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if kind.is_symlink() {
        return taken("a symbolic link");
    }
    if kind.is_dir() {
        return taken("a directory");
    }
    if !kind.is_socket() {
        return taken("a file that is not a socket");
    }
    match is_served(path) {
        Ok(false) => std::fs::remove_file(path).map_err(failed),
        Ok(true) => Err(SocketError::InUse(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

/// Whether a process listens, though it may not find the time to take connections.
fn is_served(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The file has its mode from the start: Linux takes it from the socket's own (unix_bind in net/unix/af_unix.c).
fn bind_at(path: &Path) -> io::Result<UnixListener> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    fchmod(socket.as_fd(), Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
#[path = "socket_test.rs"]
mod tests;
