//! The terminal while a page is shown on it: another screen than the one the shell is on, without a cursor, in raw mode. All
//! three are given back in the end.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::tcgetwinsize;
use vmm::console::RawMode;
use vmm::machine::signals::Signals;

/// The alternate screen (xterm's 1049), no cursor (DECTCEM); and both undone.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left; the rest of a line, and of the screen, empty.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K";
const END_OF_SCREEN: &str = "\x1b[J";
/// What leaves: q, Q, Ctrl-C, Ctrl-D.
const QUIT: [u8; 4] = [b'q', b'Q', 3, 4];
/// Of a terminal that does not say.
const USUAL: (usize, usize) = (80, 24);

pub(super) struct Screen {
    signals: Signals,
    /// Whether keys can come.
    keys: bool,
    _raw: Option<RawMode>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Self> {
        let signals = Signals::catch()?;
        let raw = RawMode::enter(io::stdin().as_fd())?;
        let screen = Self { signals, keys: raw.is_some(), _raw: raw };
        put(ENTER)?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => USUAL,
        }
    }

    /// Shows as many of the lines as there are rows.
    pub(super) fn show(&mut self, lines: &[String], rows: usize) -> io::Result<()> {
        put(&frame(lines, rows))
    }

    /// Waits so long, or for somebody to leave; says whether somebody did.
    pub(super) fn wait(&mut self, interval: Duration) -> io::Result<bool> {
        let until = Instant::now() + interval;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let stdin = io::stdin();
            let mut polled: Vec<PollFd> =
                self.signals.sockets().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            if self.keys {
                polled.push(PollFd::new(&stdin, PollFlags::IN));
            }
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut polled, Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let pressed = self.keys && polled.last().is_some_and(|key| !key.revents().is_empty());
            drop(polled);
            if self.signals.arrived().is_some() || pressed && self.leaves()? {
                return Ok(true);
            }
        }
    }

    /// Whether what was typed means to leave; the end of input does.
    fn leaves(&self) -> io::Result<bool> {
        let mut keys = [0; 64];
        let count = io::stdin().read(&mut keys)?;
        Ok(count == 0 || keys.iter().take(count).any(|key| QUIT.contains(key)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Err(error) = put(LEAVE) {
            tracing::debug!(%error, "the terminal takes no more");
        }
    }
}

/// Everything anew in one write, so that nothing flickers.
fn frame(lines: &[String], rows: usize) -> String {
    let shown: Vec<&str> = lines.iter().take(rows).map(String::as_str).collect();
    format!("{HOME}{}{END_OF_LINE}{END_OF_SCREEN}", shown.join(&format!("{END_OF_LINE}\r\n")))
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_no_higher_than_the_screen_and_leaves_nothing_of_the_last() {
        let lines: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(frame(&lines, 2), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(frame(&[], 24), "\x1b[H\x1b[K\x1b[J");
    }
}
