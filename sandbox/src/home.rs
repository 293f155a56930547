//! The CPUs of the host that threads run on which have none of their own: those of a device are started on a vCPU, whose CPUs
//! they would inherit, and be in its way there.

use std::io;
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Unset while no thread has CPUs of its own.
static HOME: OnceLock<CpuSet> = OnceLock::new();

/// Home is where the calling thread may run, from now on. The first who says so decides.
///
/// # Errors
/// The kernel does not say where that is.
pub fn is_here() -> io::Result<()> {
    let here = sched_getaffinity(None)?;
    HOME.get_or_init(|| here);
    Ok(())
}

/// Sends the calling thread there.
pub(crate) fn go() {
    let Some(home) = HOME.get() else { return };
    if let Err(error) = sched_setaffinity(None, home) {
        tracing::warn!(%error, "a device's thread stays on the CPUs of a vCPU");
    }
}
