//! What QEMU and the host's serial console say, kept for the case that something fails.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes kept; older ones are forgotten.
const KEPT: usize = 1 << 20;
/// Lines that tell what happened last.
const TAIL: usize = 60;
/// How long QEMU's last words may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A log that is being filled by a thread of its own.
#[derive(Clone, Default)]
pub(crate) struct Console(Arc<Shared>);

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    ended: Condvar,
}

#[derive(Default)]
struct Log {
    bytes: VecDeque<u8>,
    copy: Option<File>,
    ended: bool,
}

impl Console {
    /// Also writes what comes from now on, and what came, to `file`.
    pub(crate) fn copy_to(&self, mut file: File) -> std::io::Result<()> {
        let mut log = self.lock();
        file.write_all(log.bytes.make_contiguous())?;
        log.copy = Some(file);
        Ok(())
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        let mut log = self.lock();
        last_lines(&String::from_utf8_lossy(log.bytes.make_contiguous()), TAIL)
    }

    /// The last lines of a QEMU that is ending.
    pub(crate) fn last_words(&self) -> String {
        let waiting = self.0.ended.wait_timeout_while(self.lock(), LAST_WORDS, |log| !log.ended);
        drop(waiting);
        self.tail()
    }

    /// Reads `from` to its end, on a thread of its own.
    pub(super) fn follow(&self, mut from: impl Read + Send + 'static) {
        let console = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                console.lock().append(buffer.get(..n).unwrap_or_default());
            }
            console.lock().ended = true;
            console.0.ended.notify_all();
        });
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..excess);
        if let Some(copy) = &mut self.copy {
            // The copy is a convenience; a full disk must not stop the host.
            let _ = copy.write_all(bytes);
        }
    }
}

/// The last `count` lines of `text`, with carriage returns removed.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
#[path = "console_test.rs"]
mod tests;
