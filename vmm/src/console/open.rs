//! The operator's end of a machine's serial port, opened as the spec says.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use thiserror::Error;

use super::terminal::RawMode;
use crate::machine::Console;
use crate::machine::events::Input;
use crate::spec::Serial;

/// Why it cannot be opened.
#[derive(Debug, Error, Diagnostic)]
pub enum ConsoleError {
    /// Its file.
    #[error("cannot write the guest's console to {}", path.display())]
    #[diagnostic(help("check the path and its permissions"))]
    File {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Standard input and output.
    #[error("cannot use standard input and output for the guest's console")]
    #[diagnostic(help("the process may have too many open files: raise `ulimit -n`"))]
    Standard(#[source] io::Error),
    /// A pseudo-terminal.
    #[error("cannot make a pseudo-terminal for the guest's console")]
    #[diagnostic(help(
        "mount devpts at /dev/pts; there may be too many terminals: see /proc/sys/kernel/pty"
    ))]
    Pty(#[source] io::Error),
    /// Nowhere.
    #[error("cannot open /dev/null")]
    #[diagnostic(help("/dev must be there"))]
    Null(#[source] io::Error),
}

/// A console that is open. Dropping it restores the terminal.
pub struct OpenConsole {
    /// What the machine reads and writes.
    pub console: Console,
    /// Where its pseudo-terminal is.
    pub pty: Option<PathBuf>,
    _raw: Option<RawMode>,
    /// The other end of the pseudo-terminal: as long as it is open, nobody there is not the same as the end.
    _held: Option<File>,
}

impl OpenConsole {
    /// Opens it. `end_of_input` is sent to the guest when standard input ends.
    pub fn open(serial: &Serial, end_of_input: Option<u8>) -> Result<Self, ConsoleError> {
        match serial {
            Serial::Off | Serial::Null => {
                let null = OpenOptions::new().read(true).write(true).open("/dev/null");
                let null = null.map_err(ConsoleError::Null)?;
                let output = null.try_clone().map_err(ConsoleError::Null)?;
                Ok(Self::plain(null, output))
            }
            Serial::File(path) => {
                let failed = |source| ConsoleError::File { path: path.clone(), source };
                let output = File::create(path).map_err(failed)?;
                let input = File::open("/dev/null").map_err(ConsoleError::Null)?;
                Ok(Self::plain(input, output))
            }
            Serial::Tty => Self::standard(end_of_input).map_err(ConsoleError::Standard),
            Serial::Pty => Self::pseudo_terminal().map_err(ConsoleError::Pty),
        }
    }

    fn plain(input: File, output: File) -> Self {
        let console = Console { input: Input::new(input, false, None), output, lossy: false };
        Self { console, pty: None, _raw: None, _held: None }
    }

    fn standard(end_of_input: Option<u8>) -> io::Result<Self> {
        let stdin = io::stdin();
        let input = File::from(stdin.as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let input = Input::new(input, stdin.is_terminal(), end_of_input);
        let raw = RawMode::enter(stdin.as_fd())?;
        Ok(Self { console: Console { input, output, lossy: false }, pty: None, _raw: raw, _held: None })
    }

    fn pseudo_terminal() -> io::Result<Self> {
        let PseudoTerminal { master: output, held, path } = PseudoTerminal::open()?;
        let input = Input::new(output.try_clone()?, false, None);
        let console = Console { input, output, lossy: true };
        Ok(Self { console, pty: Some(path), _raw: None, _held: Some(held) })
    }
}

/// A new pseudo-terminal.
pub(crate) struct PseudoTerminal {
    /// Our end.
    pub(crate) master: File,
    /// The other end, raw. As long as it is open, nobody there is not the same as the end.
    pub(crate) held: File,
    /// Where the other end is.
    pub(crate) path: PathBuf,
}

impl PseudoTerminal {
    pub(crate) fn open() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let path = Path::new(name.to_str().map_err(io::Error::other)?).to_owned();
        let held = hold(&path)?;
        Ok(Self { master: File::from(master), held, path })
    }
}

/// Opens the other end, and makes it raw: else the guest would be sent back all that it prints.
fn hold(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let held = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)?;
    let mut attributes = tcgetattr(&held)?;
    attributes.make_raw();
    tcsetattr(&held, OptionalActions::Now, &attributes)?;
    Ok(held)
}

#[cfg(test)]
#[path = "open_test.rs"]
mod tests;
