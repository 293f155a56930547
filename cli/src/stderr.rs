//! Standard error, as vmm says things there: no machine ends or waits because its reader is gone, out of room or does not read.
//! `eprint!` panics in the first two cases and waits for ever in the third, signals and all.

use std::fmt::Arguments;
use std::io::{self, StderrLock, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long a reader may take before what is said is lost.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// A pipe that has any room has room for so much (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;

/// The reader took too long, and nothing since.
static DEAF: AtomicBool = AtomicBool::new(false);

/// Prints to standard error.
macro_rules! say {
    ($($what:tt)+) => {
        $crate::stderr::tell(format_args!($($what)+))
    };
}
pub(crate) use say;

/// Prints to standard error; what it does not take is lost.
pub(crate) fn tell(what: Arguments<'_>) {
    // There is nobody left to be told.
    let _ = Stderr::lock().write_all(what.to_string().as_bytes());
}

/// Standard error, for one message.
pub(crate) struct Stderr(StderrLock<'static>);

impl Stderr {
    /// Others wait until it is dropped.
    pub(crate) fn lock() -> Self {
        Self(io::stderr().lock())
    }
}

/// Writes a part of `bytes`, or loses all of them if the reader does not read.
fn write_or_lose(out: &mut (impl Write + AsFd), deaf: &AtomicBool, bytes: &[u8]) -> io::Result<usize> {
    let patience = if deaf.load(Ordering::Relaxed) { Timespec::default() } else { PATIENCE };
    let has_room = has_room(out.as_fd(), &patience);
    deaf.store(!has_room, Ordering::Relaxed);
    if has_room { out.write(bytes.get(..PIECE).unwrap_or(bytes)) } else { Ok(bytes.len()) }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_or_lose(&mut self.0, &DEAF, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether a write would not wait. What cannot be waited for may be tried.
fn has_room(out: BorrowedFd<'_>, patience: &Timespec) -> bool {
    let mut ready = [PollFd::from_borrowed_fd(out, PollFlags::OUT)];
    match poll(&mut ready, Some(patience)) {
        // The signal may be the one that is to end the machine.
        Err(Errno::INTR) => has_room(out, &Timespec::default()),
        ready => ready != Ok(0),
    }
}

#[cfg(test)]
#[path = "stderr_test.rs"]
mod tests;
