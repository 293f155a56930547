//! The terminal that the lab runs on: its size, and raw mode that always ends.

use std::io::{self, IsTerminal};

use rustix::termios::{OptionalActions, Termios};

use crate::wire::Size;

/// Ends the lab from a raw terminal: Ctrl-].
pub(crate) const ESCAPE: u8 = 0x1d;

/// Standard input in raw mode; dropping it restores what was.
pub(crate) struct Raw {
    saved: Termios,
}

impl Raw {
    /// Fails where standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Raw> {
        let saved = rustix::termios::tcgetattr(io::stdin())?;
        let mut raw = saved.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Raw { saved })
    }

    /// Restores what was before.
    pub(crate) fn restore(&self) {
        if let Err(e) = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.saved) {
            eprintln!("lab: cannot restore the terminal, try `reset`: {e}");
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The terminal's size, if a person sits at one: standard input and output both are terminals.
pub(crate) fn size() -> Option<Size> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return None;
    }
    let window = rustix::termios::tcgetwinsize(io::stdin()).ok()?;
    // Some terminals do not know.
    let or = |size, otherwise| if size == 0 { otherwise } else { size };
    Some(Size { rows: or(window.ws_row, 24), columns: or(window.ws_col, 80) })
}
