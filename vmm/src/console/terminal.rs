//! Raw mode of the operator's terminal: every key goes to the guest, and the terminal is given back as it was, also
//! when vmm panics or crashes. (Only SIGKILL leaves it raw; `stty sane` mends that, as it does for any program.)
//!
//! # Unsafe
//! Terminal attributes are read and set with libc, and must be restored from a signal handler.
#![expect(unsafe_code, reason = "termios and signal handlers")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

/// Signals that mean a crash; the terminal is restored before they take their course.
const CRASHES: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGQUIT];

/// The attributes to go back to; null when there is nothing to restore.
static SAVED: AtomicPtr<libc::termios> = AtomicPtr::new(ptr::null_mut());
static TERMINAL: AtomicI32 = AtomicI32::new(-1);

/// A terminal in raw mode; dropping it restores the terminal.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Puts the terminal `fd` into raw mode. `None` when it is no terminal. The descriptor must stay open as long as
    /// the mode lasts, which standard input does.
    pub fn enter(fd: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let fd = fd.as_raw_fd();
        let mut termios = MaybeUninit::uninit();
        // SAFETY: `termios` is a valid place to write to, and is read only when the call succeeded.
        let mut raw = unsafe {
            if libc::tcgetattr(fd, termios.as_mut_ptr()) != 0 {
                return Ok(None);
            }
            termios.assume_init()
        };
        // Kept for the rest of the process: a signal handler may still be reading it.
        let saved = Box::leak(Box::new(raw));
        // SAFETY: `raw` is a valid termios, and so is what the handlers are installed with.
        unsafe {
            libc::cfmakeraw(&raw mut raw);
            TERMINAL.store(fd, Ordering::SeqCst);
            SAVED.store(saved, Ordering::SeqCst);
            for signal in CRASHES {
                libc::signal(signal, crashed as *const () as libc::sighandler_t);
            }
            if libc::tcsetattr(fd, libc::TCSANOW, &raw const raw) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Some(Self(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal if it is raw. Async-signal-safe.
pub fn restore() {
    let saved = SAVED.swap(ptr::null_mut(), Ordering::SeqCst);
    if !saved.is_null() {
        // SAFETY: `saved` was leaked by `enter`, so it is valid for ever; tcsetattr is async-signal-safe.
        unsafe { libc::tcsetattr(TERMINAL.load(Ordering::SeqCst), libc::TCSANOW, saved) };
    }
}

extern "C" fn crashed(signal: libc::c_int) {
    restore();
    // SAFETY: both are async-signal-safe; the default action of these signals ends the process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
