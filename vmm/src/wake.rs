//! Waking a thread that waits in poll(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd of which only matters whether it was signalled.
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    /// Not signalled yet.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it readable.
    pub(crate) fn signal(&self) {
        match rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            // A counter that is full is readable.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => tracing::error!(%error, "a thread cannot be woken"),
        }
    }

    /// Makes it unreadable; whether it was readable.
    pub(crate) fn clear(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_one_until_cleared() {
        let wake = Wake::new().unwrap();
        assert!(!wake.clear());
        wake.signal();
        wake.signal();
        assert!(wake.clear() && !wake.clear());
    }
}
