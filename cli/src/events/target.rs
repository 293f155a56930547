//! Where events go: a file, a pipe, or a descriptor that was handed in.
//!
//! # Unsafe
//! A descriptor that was handed in is known by its number only.
#![expect(unsafe_code, reason = "a descriptor from the command line is known by its number")]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where events are written.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Events {
    /// A file, to whose end they are added, or a named pipe that somebody reads.
    #[schemars(extend("x-value" = "FILE"))]
    pub(crate) path: Option<PathBuf>,
    /// A descriptor that whoever starts vmm has open for writing, instead of a file.
    pub(crate) fd: Option<u32>,
}

/// Why events cannot be written.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum EventsError {
    #[error("--events does not say where to")]
    #[diagnostic(help("give --events FILE, or --events fd=N"))]
    Nowhere,
    #[error("--events {},fd={fd} are two places", path.display())]
    #[diagnostic(help("give either"))]
    Two { path: PathBuf, fd: u32 },
    #[error("cannot write events to {}", path.display())]
    #[diagnostic(help("give a file that may be written to, or a named pipe that somebody reads already"))]
    Path {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write events to file descriptor {fd}")]
    #[diagnostic(help(
        "whoever starts vmm must leave it open for writing across exec, as a shell does with `{fd}>FILE`"
    ))]
    Descriptor {
        fd: u32,
        #[source]
        source: io::Error,
    },
    #[error("cannot start a thread that writes events")]
    #[diagnostic(help("the limit on processes may be reached: `ulimit -u`"))]
    Thread(#[source] io::Error),
}

/// Opens it.
pub(super) fn open(events: &Events) -> Result<File, EventsError> {
    match (&events.path, events.fd) {
        (Some(path), None) => {
            open_path(path).map_err(|error| EventsError::Path { path: path.clone(), source: error.into() })
        }
        (None, Some(fd)) => {
            duplicate(fd).map_err(|error| EventsError::Descriptor { fd, source: error.into() })
        }
        (Some(path), Some(fd)) => Err(EventsError::Two { path: path.clone(), fd }),
        (None, None) => Err(EventsError::Nowhere),
    }
}

/// A pipe that nobody reads is an error, not a wait.
fn open_path(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file.into())
}

/// The same open file under a number of ours; helper processes get neither.
fn duplicate(fd: u32) -> Result<File, Errno> {
    let number = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: borrowed within this function, where calls fail on a number that is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let file = rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?;
    let mode = rustix::fs::fcntl_getfl(&file)? & OFlags::RWMODE;
    if mode == OFlags::RDONLY {
        return Err(Errno::BADF);
    }
    if fd > 2 {
        rustix::io::fcntl_setfd(borrowed, rustix::io::fcntl_getfd(borrowed)? | FdFlags::CLOEXEC)?;
    }
    Ok(file.into())
}
