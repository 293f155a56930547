//! What is taken from threads that serve a guest: all that they work with is open, so they need no rights to open or make
//! anything. Unlike seccomp this also holds for what io_uring does for them.
//!
//! - Capabilities(7), which count where something is opened, changed or killed, not where an open descriptor is used.
//! - Access to files by path, to TCP ports, and to processes outside: Landlock (Documentation/userspace-api/landlock.rst)
//!   with no exception. How much of it depends on the kernel. Sockets that have a path can be connected to, as a vsock does.

use std::sync::Once;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use thiserror::Error;

/// Rights up to those that Linux 6.15 knows. The next ones are about sockets with a path.
pub(crate) const KNOWN: ABI = ABI::V7;

/// What could not be taken away.
#[derive(Debug, Error)]
pub enum RightsError {
    /// Capabilities of a thread.
    #[error("capabilities stay")]
    Capabilities(#[source] std::io::Error),
    /// Access by path.
    #[error("Landlock fails")]
    Landlock(#[from] RulesetError),
}

/// What root may that a machine takes to build, or to be said what is wrong with it.
const BUILDING: CapabilitySet = CapabilitySet::DAC_OVERRIDE // nodes and files of others, as root expects
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::IPC_LOCK) // pins beyond RLIMIT_MEMLOCK
    .union(CapabilitySet::SYS_RESOURCE) // limits on open files
    .union(CapabilitySet::SYS_ADMIN) // where pages are (pagemap)
    .union(CapabilitySet::SYS_RAWIO) // ports and MSI without remapping, if root has VFIO allow them
    .union(CapabilitySet::SYS_NICE) // --cpu-realtime, and memory of NUMA nodes
    .union(CapabilitySet::SYS_PTRACE) // who else holds guest memory, or the lock on an image
    .union(CapabilitySet::SYSLOG) // what the kernel says of CMA
    .union(CapabilitySet::NET_ADMIN); // taps

/// What of that it takes to pin memory while a guest runs, or to say why it cannot be pinned.
const PINNING: CapabilitySet = CapabilitySet::IPC_LOCK
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH) // the descriptors of who holds it
    .union(CapabilitySet::SYSLOG);

/// Leaves the calling thread, and those that it starts, what a machine takes to build.
///
/// # Errors
/// The kernel does not do it.
pub(crate) fn keep_for_building() -> Result<(), RightsError> {
    keep(BUILDING)
}

/// Leaves the calling thread, and those that it starts, what memory takes to be pinned.
///
/// # Errors
/// The kernel does not do it.
pub(crate) fn keep_for_pinning() -> Result<(), RightsError> {
    keep(PINNING)
}

fn keep(these: CapabilitySet) -> Result<(), RightsError> {
    let failed = |error: rustix::io::Errno| RightsError::Capabilities(error.into());
    let now = capabilities(None).map_err(failed)?;
    set(now.permitted & these, now.effective & these).map_err(failed)
}

/// Takes all capabilities from the calling thread and those that it starts, for good.
///
/// # Errors
/// The kernel does not do it.
pub(crate) fn give_up_capabilities() -> Result<(), RightsError> {
    let none = CapabilitySet::empty();
    set(none, none).map_err(|error| RightsError::Capabilities(error.into()))
}

fn set(permitted: CapabilitySet, effective: CapabilitySet) -> rustix::io::Result<()> {
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })
}

/// Takes all of it from the calling thread and those that it starts, for good.
///
/// # Errors
/// The kernel knows it and does not do it. That a kernel has no Landlock, or less of it, is none.
pub(crate) fn give_up() -> Result<(), RightsError> {
    give_up_capabilities()?;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .restrict_self()?;
    static SAID: Once = Once::new();
    SAID.call_once(|| match status.ruleset {
        RulesetStatus::FullyEnforced => tracing::debug!(kernel = ?status.landlock, "Landlock"),
        less => tracing::info!(?less, kernel = ?status.landlock, "the kernel has less of Landlock than vmm would use"),
    });
    Ok(())
}

#[cfg(test)]
#[path = "rights_test.rs"]
mod tests;
