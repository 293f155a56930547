//! Where the API listens: a path in the file system, which only the owner may connect to, or a socket that was handed
//! in.
//!
//! # Unsafe
//! A descriptor that was handed in is known by its number only.
#![expect(unsafe_code, reason = "a descriptor from the command line is adopted by its number")]

use std::borrow::Borrow;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;

use miette::Diagnostic;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};
use thiserror::Error;

use crate::listener::{ListenError, Listener};

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
    /// Nothing can listen at the path.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Path(#[from] ListenError),
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

/// A listening socket.
#[derive(Debug)]
pub struct ApiListener(Held);

#[derive(Debug)]
enum Held {
    Own(Listener),
    Handed(UnixListener),
}

impl ApiListener {
    /// Listens at `socket`.
    pub fn open(socket: &ApiSocket) -> Result<Self, SocketError> {
        match socket {
            ApiSocket::Path(path) => Ok(Self(Held::Own(Listener::at(path)?))),
            ApiSocket::Descriptor(fd) => Self::adopt(*fd),
        }
    }

    /// Another handle on the listening socket.
    pub fn listener(&self) -> io::Result<UnixListener> {
        let socket: &UnixListener = match &self.0 {
            Held::Own(listener) => listener.borrow(),
            Held::Handed(socket) => socket,
        };
        socket.try_clone()
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
        Ok(Self(Held::Handed(owned.into())))
    }
}

#[cfg(test)]
#[path = "socket_test.rs"]
mod tests;
