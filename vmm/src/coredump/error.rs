//! Why there is no core dump, in words.

use std::io;
use std::path::PathBuf;

use memory::bytes::Bytes;
use miette::Diagnostic;
use thiserror::Error;

/// Why a guest was not dumped.
#[derive(Debug, Error, Diagnostic)]
pub enum CoredumpError {
    /// Nothing is overwritten.
    #[error("{} is there already", .0.display())]
    #[diagnostic(help("give a path where nothing is, or remove what is there"))]
    Exists(PathBuf),
    /// The file cannot be made.
    #[error("cannot create {}", path.display())]
    #[diagnostic(help("give a path in a directory that vmm's user may write to, on vmm's host"))]
    Create {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The process may not write files of that size.
    #[error("the core dump would have {}, and files of vmm may have {}", Bytes(*size), Bytes(*limit))]
    #[diagnostic(help(
        "raise the limit before vmm starts: `ulimit -f unlimited`, LimitFSIZE= in a systemd unit"
    ))]
    Limit {
        /// Of the dump, in bytes, holes included.
        size: u64,
        /// RLIMIT_FSIZE, in bytes.
        limit: u64,
    },
    /// The file cannot be completed.
    #[error("cannot write {}, which was removed again", path.display())]
    #[diagnostic(help("its file system must have room for the guest's memory, {} at most", Bytes(*size)))]
    Write {
        /// Where.
        path: PathBuf,
        /// Of the dump, in bytes, holes included.
        size: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Guest memory cannot be read.
    #[error("cannot read guest memory, the core dump was removed again")]
    #[diagnostic(help("a page of it may be broken: `dmesg | grep -i 'memory failure'`"))]
    Read(#[source] io::Error),
    /// The guest does not stand still any longer.
    #[error("the machine is ended or reset, the core dump was removed again")]
    #[diagnostic(help("dump a machine again that is paused, and wait until that is done"))]
    Abandoned,
}
