//! What is taken from threads that serve a guest: all that they work with is open, so they need no rights to open or make
//! anything. Unlike seccomp this also holds for what io_uring does for them.
//!
//! - Capabilities(7), which count where something is opened, changed or killed, not where an open descriptor is used.
//! - Access to files by path, to TCP ports, and to processes outside: Landlock (Documentation/userspace-api/landlock.rst)
//!   with no exception. How much of it depends on the kernel. Sockets that have a path can be connected to, as a vsock does.

use std::sync::Once;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use thiserror::Error;

/// Rights up to those that Linux 6.15 knows. The next ones are about sockets with a path.
const KNOWN: ABI = ABI::V7;

/// What could not be taken away.
#[derive(Debug, Error)]
pub(crate) enum RightsError {
    #[error("capabilities stay")]
    Capabilities(#[source] std::io::Error),
    #[error("Landlock fails")]
    Landlock(#[from] RulesetError),
}

/// Takes all of it from the calling thread and those that it starts, for good.
///
/// # Errors
/// The kernel knows it and does not do it. That a kernel has no Landlock, or less of it, is none.
pub(crate) fn give_up() -> Result<(), RightsError> {
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, none).map_err(|error| RightsError::Capabilities(error.into()))?;
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
