//! Unix sockets that the machine listens at: a path in the file system, which only the owner may connect to.

use std::borrow::Borrow;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use thiserror::Error;

/// Connections that may wait to be taken.
const BACKLOG: i32 = 128;

/// Why nothing can listen at a path.
#[derive(Debug, Error, Diagnostic)]
pub enum ListenError {
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
}

/// A socket that listens. Dropping it removes its path, if that is still its own.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Which file that is.
    file: (u64, u64),
}

impl Listener {
    /// Listens at `path`. What a process that was killed left there is taken over.
    ///
    /// # Errors
    /// Somebody else's file is there, or the path cannot be used.
    pub fn at(path: &Path) -> Result<Self, ListenError> {
        let failed = |source: io::Error| ListenError::Path { path: path.to_owned(), source };
        // Two that start at one time must not both take a left-over socket away.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = File::open(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        flock(&directory, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        clear(path)?;
        let socket = bind_at(path).map_err(failed)?;
        let metadata = path.symlink_metadata().map_err(failed)?;
        Ok(Self { socket, path: path.to_owned(), file: identity(&metadata) })
    }
}

impl Borrow<UnixListener> for Listener {
    fn borrow(&self) -> &UnixListener {
        &self.socket
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Whatever took its place since is somebody else's.
        let own = self.path.symlink_metadata().is_ok_and(|metadata| identity(&metadata) == self.file);
        if own && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a socket stays behind");
        }
    }
}

/// Removes a socket that a process left behind when it was killed. Follows no symbolic link.
fn clear(path: &Path) -> Result<(), ListenError> {
    let taken = |what| Err(ListenError::Taken { path: path.to_owned(), what });
    let failed = |source: io::Error| ListenError::Path { path: path.to_owned(), source };
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
        Ok(true) => Err(ListenError::InUse(path.to_owned())),
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
#[path = "listener_test.rs"]
mod tests;
