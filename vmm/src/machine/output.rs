//! What the guest prints, on its way to the operator. A reader who does not read holds the guest up, as a serial line
//! with flow control does, but does not keep the machine from ending.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};

use super::ending::Ending;

/// The serial port's output, for one run of the guest.
pub struct Output {
    file: File,
    ending: Arc<Ending>,
}

impl Output {
    /// Writes to `file` until the run ends.
    pub fn new(file: File, ending: Arc<Ending>) -> Self {
        Self { file, ending }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = [
                PollFd::new(&self.file, PollFlags::OUT),
                PollFd::from_borrowed_fd(self.ending.event(), PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
            let [file, _] = &ready;
            if !file.revents().is_empty() {
                return self.file.write(bytes);
            }
            // The run is over and nobody reads: what is left to say is lost.
            return Ok(bytes.len());
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
