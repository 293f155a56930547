//! One start: when the guest was first heard of, when the process ended, what CPU time it took.
//!
//! # Unsafe
//! wait4, the one call that tells what a single child has used, to the microsecond.
#![expect(unsafe_code, reason = "wait4")]

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::guest;

/// One start. Times are in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// From before the spawn until the first byte that the guest wrote came out of the process.
    pub(super) first: f64,
    /// From before the spawn until the process had ended and been waited for.
    pub(super) exit: f64,
    /// CPU time in user mode. The kernel shares out what it measured between the two by where it saw the process at its ticks.
    pub(super) user: f64,
    /// CPU time in the kernel; not what its workers did on the process's behalf.
    pub(super) system: f64,
}

/// Runs `command` with a guest that writes a byte and ends it.
pub(super) fn take(mut command: Command) -> Result<Sample, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|error| format!("cannot run {program}: {error}"))?;
    let mut byte = [0; 1];
    let said = child.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(&mut byte));
    let first = started.elapsed();
    let (status, usage) = wait(child.id()).map_err(|error| format!("cannot wait for {program}: {error}"))?;
    let exit = started.elapsed();
    if status != Some(guest::STATUS) || !matches!(said, Ok(1)) {
        let mut why = String::new();
        child.stderr.as_mut().map_or(Ok(0), |stderr| stderr.read_to_string(&mut why)).unwrap_or_default();
        return Err(format!("it ended with {status:?}: {}", why.trim()));
    }
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok(Sample {
        first: first.as_secs_f64() * 1e3,
        exit: exit.as_secs_f64() * 1e3,
        user: ms(usage.ru_utime),
        system: ms(usage.ru_stime),
    })
}

/// Waits for the end of a child. Gives its exit status, unless a signal killed it, and what it used.
fn wait(child: u32) -> io::Result<(Option<i32>, libc::rusage)> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    loop {
        // SAFETY: both pointers are to variables of ours, which outlive the call.
        let ended = unsafe { libc::wait4(child as libc::pid_t, &mut status, 0, usage.as_mut_ptr()) };
        if ended > 0 {
            // SAFETY: the call has succeeded and filled it in.
            let usage = unsafe { usage.assume_init() };
            return Ok((libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)), usage));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
