//! What the host had no more of, whatever was being done. Descriptors, threads and the kernel's memory can run out at any call,
//! so the remedy is not that of the call.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::iter::successors;

use miette::Diagnostic;
use rustix::io::Errno;

use crate::problem::Class;

/// What has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortage {
    /// Open files of the process (EMFILE).
    OwnFiles,
    /// Open files of all processes (ENFILE).
    AllFiles,
    /// Processes and threads (EAGAIN, clone(2)).
    Threads,
    /// Memory of the kernel (ENOMEM).
    KernelMemory,
}

impl Shortage {
    /// What is behind a problem of this class, if it is a shortage.
    fn behind(class: Class, what: &(dyn Error + 'static)) -> Option<Self> {
        let errno = successors(Some(what), |error| (*error).source()).find_map(errno)?;
        match (Errno::from_raw_os_error(errno), class) {
            (Errno::MFILE, _) => Some(Self::OwnFiles),
            (Errno::NFILE, _) => Some(Self::AllFiles),
            // KVM starts threads as well. Elsewhere it is a device that is busy.
            (Errno::AGAIN, Class::Internal | Class::Guest) => Some(Self::Threads),
            // Of guest memory much more is known.
            (Errno::NOMEM, class) if class != Class::Memory => Some(Self::KernelMemory),
            _ => None,
        }
    }
}

/// The remedy.
impl Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnFiles => {
                "the process may open no more files: raise `ulimit -n`, or LimitNOFILE= in a systemd unit"
            }
            Self::AllFiles => "the host has as many files open as it may: `sysctl fs.file-max`",
            Self::Threads => {
                "no more threads may be started: raise `ulimit -u`, or TasksMax= (pids.max) of the unit"
            }
            Self::KernelMemory => {
                "the kernel had no memory for it: free some on the host, or raise memory.max of the cgroup; \
                 `dmesg` says more"
            }
        })
    }
}

/// The error number that the kernel gave, if this is it.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let io = error.downcast_ref::<io::Error>();
    let io = io.and_then(|io| io.raw_os_error().or_else(|| errno(io.get_ref()?)));
    let rustix = || error.downcast_ref::<Errno>().map(|errno| errno.raw_os_error());
    let kvm = || error.downcast_ref::<kvm_ioctls::Error>().map(|error| error.errno());
    io.or_else(rustix).or_else(kvm)
}

/// A problem that is a shortage.
#[derive(Debug)]
struct RanOut {
    what: Box<dyn Diagnostic + Send + Sync>,
    shortage: Shortage,
}

impl Display for RanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

impl Error for RanOut {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.what.source()
    }
}

impl Diagnostic for RanOut {
    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        Some(Box::new(self.shortage))
    }
}

/// The problem, with class and remedy of a shortage if it is one.
pub(crate) fn explain(
    class: Class,
    what: impl Diagnostic + Send + Sync + 'static,
) -> (Class, Box<dyn Diagnostic + Send + Sync>) {
    match Shortage::behind(class, &what) {
        None => (class, Box::new(what)),
        Some(shortage) => {
            let class = if class == Class::Memory { class } else { Class::Host };
            (class, Box::new(RanOut { what: Box::new(what), shortage }))
        }
    }
}

#[cfg(test)]
#[path = "shortage_test.rs"]
mod tests;
