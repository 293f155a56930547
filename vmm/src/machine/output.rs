//! What the guest prints, on its way to the operator. A reader who does not read holds the guest up, as a serial line
//! with flow control does, but does not keep the machine from ending. Where there may be no reader at all, what is
//! printed meanwhile is lost instead.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::ending::Ending;

/// The serial port's output, for one run of the guest.
pub struct Output {
    file: File,
    lossy: bool,
    ending: Arc<Ending>,
}

impl Output {
    /// Writes to `file` until the run ends. What it has no room for waits, or is lost if that is what `lossy` says.
    pub fn new(file: File, lossy: bool, ending: Arc<Ending>) -> Self {
        Self { file, lossy, ending }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = [
                PollFd::new(&self.file, PollFlags::OUT),
                PollFd::from_borrowed_fd(self.ending.event(), PollFlags::IN),
            ];
            let timeout = self.lossy.then(Timespec::default);
            match poll(&mut ready, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
            let [file, _] = &ready;
            if !file.revents().is_empty() {
                return self.file.write(bytes);
            }
            // The run is over, or it may be lost: nobody reads.
            return Ok(bytes.len());
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
