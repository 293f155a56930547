//! Devices that are about to be free: what a killed process had open, the kernel closes a moment after that process is gone,
//! where a worker of the kernel's lets go last (`io_uring/io_uring.c`, `io_ring_exit_work`). Until then a device is in use by
//! nobody, which passes.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tracing::info;

/// How long that may take.
pub(crate) const RELEASE: Duration = Duration::from_secs(5);
/// Time after which it is tried again at first; it doubles each time.
const AGAIN: Duration = Duration::from_millis(5);

/// Opens `path` as `open` does, again and again while that fails for a reason that `is_passing`, for `patience`.
pub(crate) fn when_released<T, E>(
    path: &Path,
    mut open: impl FnMut() -> Result<T, E>,
    is_passing: impl Fn(&E) -> bool,
    patience: Duration,
) -> Result<T, E> {
    let (started, mut pause) = (Instant::now(), AGAIN);
    loop {
        let opened = open();
        if !opened.as_ref().is_err_and(|error| started.elapsed() < patience && is_passing(error)) {
            return opened;
        }
        if pause == AGAIN {
            info!(path = %path.display(), "in use by nobody that can be seen: waiting for the kernel to close it");
        }
        thread::sleep(pause);
        pause *= 2;
    }
}

#[cfg(test)]
#[path = "release_test.rs"]
mod tests;
