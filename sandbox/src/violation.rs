//! What happens when a thread asks the kernel for something that its role may not: SIGSYS, whose handler says what it was and
//! ends the process.
//!
//! # Unsafe
//! A signal handler, and what it reads of its context.
#![expect(unsafe_code, reason = "a signal handler and what it reads")]

use std::ffi::c_void;
use std::io::Write;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{mem, ptr};

use crate::names;

/// What the process ends with.
pub const EXIT_CODE: u8 = 6;

/// Called last; null if nothing is to be.
static LAST: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// From now on a violation is explained before it ends the process.
pub(crate) fn explain(last: fn()) {
    LAST.store(last as *mut c_void, Ordering::SeqCst);
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut c_void) = violated;
    // SAFETY: all zeroes is an empty mask and no flags; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut());
    }
}

/// Async-signal-safe: allocates nothing, takes no locks, and calls what every role may.
extern "C" fn violated(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a ucontext to handlers with SA_SIGINFO.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let register = |index: libc::c_int| registers.get(index as usize).copied().unwrap_or(-1);
    // The kernel leaves the number in rax (kernel/seccomp.c, SECCOMP_RET_TRAP: syscall_rollback).
    let number = register(libc::REG_RAX);
    let mut name = [0; 16];
    // SAFETY: the kernel writes at most 16 bytes there, which end with a zero.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let name = name.split(|byte| *byte == 0).next().and_then(|name| str::from_utf8(name).ok()).unwrap_or("?");
    let mut line = Line::default();
    let _ = writeln!(
        line,
        "\r\nerror: the sandbox has stopped vmm: thread {name} made system call {} ({number}; {:#x}, {:#x}, {:#x}), which it \
         never needs\r\n   help: somebody may have taken vmm over from within the guest, or this is a defect: report it. \
         `--sandbox off` runs without\r",
        names::name(number as usize),
        register(libc::REG_RDI),
        register(libc::REG_RSI),
        register(libc::REG_RDX),
    );
    line.end();
}

/// A thread that cannot be confined does not run.
pub(crate) fn unconfined(why: &dyn std::error::Error) -> ! {
    let mut line = Line::default();
    let _ = writeln!(line, "\r\nerror: a thread cannot be confined, so vmm ends\r\n  cause: {why}\r");
    if let Some(cause) = why.source() {
        let _ = writeln!(line, "  cause: {cause}\r");
    }
    let _ = writeln!(
        line,
        "   help: raise `ulimit -n` if files are what is short; `--sandbox off` runs without\r"
    );
    line.end()
}

/// Text of bounded length.
struct Line {
    bytes: [u8; 512],
    used: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 512], used: 0 }
    }
}

impl Write for Line {
    fn write(&mut self, more: &[u8]) -> std::io::Result<usize> {
        let room = self.bytes.get_mut(self.used..).unwrap_or_default();
        let fits = more.len().min(room.len());
        room.iter_mut().zip(more).for_each(|(to, from)| *to = *from);
        self.used += fits;
        Ok(fits)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Line {
    /// Writes it to standard error, does what is to be done last, and ends the process.
    fn end(&self) -> ! {
        let last = LAST.load(Ordering::SeqCst);
        if !last.is_null() {
            // SAFETY: only `explain` stores there, and what it stores is such a function.
            unsafe { mem::transmute::<*mut c_void, fn()>(last)() };
        }
        // SAFETY: plain calls that signal handlers may make, with a buffer that is alive.
        unsafe {
            libc::write(libc::STDERR_FILENO, self.bytes.as_ptr().cast(), self.used);
            libc::_exit(EXIT_CODE.into())
        }
    }
}

#[cfg(test)]
#[path = "violation_test.rs"]
mod tests;
