//! Starts on one host take turns at pinning: they would fight over memory, and one's trial pin is a reference that
//! keeps another's page from moving. The turn is a lock on a file (flock), which the kernel takes back when its owner
//! dies, however it dies.
//!
//! It is a courtesy: without a place for the file there is no lock, and who waits too long goes on beside the other.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long another start is waited for: 1 TiB takes less.
const PATIENCE: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(20);

/// The turn. Dropping it passes it on.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: Option<File>,
}

impl Turn {
    /// Waits for the turn; tells `waiting` now and then while it does.
    pub(super) fn take(waiting: &dyn Fn()) -> Self {
        let lock = directory().and_then(|directory| Self::take_in(&directory, PATIENCE, waiting));
        let lock = lock.inspect_err(|error| tracing::debug!(%error, "pinning beside others, without a lock"));
        Self { _lock: lock.ok() }
    }

    fn take_in(directory: &Path, patience: Duration, waiting: &dyn Fn()) -> io::Result<File> {
        if let Err(error) = DirBuilder::new().mode(0o700).create(directory)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let path = directory.join("pin.lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(path)?;
        let until = Instant::now() + patience;
        let mut told = None;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < until => (),
                Err(errno) => return Err(errno.into()),
            }
            if told.is_none_or(|last: Instant| last.elapsed() > Duration::from_secs(1)) {
                waiting();
                told = Some(Instant::now());
            }
            thread::sleep(TICK);
        }
    }
}

/// `/run/vmm` for root, the user's own place for others.
fn directory() -> io::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        fs::metadata("/run")?;
        return Ok(PathBuf::from("/run/vmm"));
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").ok_or(io::ErrorKind::NotFound)?;
    Ok(PathBuf::from(own).join("vmm"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn one_at_a_time_and_the_dead_do_not_count() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("vmm");
        let calls = Cell::new(0);
        let take = |patience| Turn::take_in(&directory, patience, &|| calls.set(calls.get() + 1));
        let first = take(Duration::ZERO).unwrap();
        assert_eq!(calls.get(), 0);
        assert!(take(Duration::from_millis(50)).is_err());
        assert_eq!(calls.get(), 1);
        let waits = thread::scope(|scope| {
            let waits = scope.spawn(|| Turn::take_in(&directory, Duration::from_secs(20), &|| ()).is_ok());
            thread::sleep(Duration::from_millis(60));
            drop(first);
            waits.join().unwrap()
        });
        assert!(waits);
    }

    #[test]
    fn without_a_place_there_is_no_lock() {
        assert!(Turn::take_in(Path::new("/proc/no/such"), Duration::ZERO, &|| ()).is_err());
    }
}
