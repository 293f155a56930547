//! What each thread may ask of the kernel (seccomp, Documentation/userspace-api/seccomp_filter.rst), so that whoever takes a
//! thread over from a guest, a disk image or a client gets no further than that. Threads that serve a guest give up all rights
//! that they do not need as well ([`rights`]).
//!
//! [`arm`] is called once, before other threads start. Every thread then says what it is, as the first thing it does:
//! [`Role::enter`]. Threads inherit the filters of those that start them, so a role may do all that the roles may which it
//! starts, and the main thread what any may. What a role may do is in one [`table`]. Anything else ends the process, with
//! a line that says what it was ([`violation`]).
//!
//! On the way threads of devices also leave the CPUs of the vCPU that started them ([`home`]).
//!
//! This crate is below all others, since threads are started in most of them.

mod filter;
pub mod home;
mod identity;
pub mod names;
mod reach;
mod rights;
pub mod table;
mod violation;

use std::path::PathBuf;
use std::sync::OnceLock;

use seccompiler::BpfProgram;
use thiserror::Error;

pub use identity::{IdentityError, User};
pub use reach::{Reach, Use};
pub use rights::RightsError;
pub use violation::EXIT_CODE;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The main thread; and those that load files and plug devices, which may do as much.
    Main,
    /// Pins memory, maps it for devices and takes it back, as a guest asks for it while it runs.
    Pin,
    /// Runs a vCPU, and answers what its guest does to devices.
    Vcpu,
    /// Serves a device's queues, or does its slow requests.
    Device,
    /// Talks to clients of the API, and answers them.
    Api,
    /// Writes down what happens.
    Events,
}

impl Role {
    const ALL: [Self; 6] = [Self::Main, Self::Pin, Self::Vcpu, Self::Device, Self::Api, Self::Events];

    /// Who starts its threads.
    const fn parent(self) -> Option<Self> {
        match self {
            Self::Main => None,
            // Those of a device start when its driver says that it is ready, hence on a vCPU.
            Self::Device => Some(Self::Vcpu),
            Self::Pin | Self::Vcpu | Self::Api | Self::Events => Some(Self::Main),
        }
    }

    /// Whether it may do what `other` may: that is itself, or started by it, at whatever remove.
    pub fn may(self, other: Self) -> bool {
        std::iter::successors(Some(other), |it| it.parent()).any(|it| it == self)
    }

    /// Confines the calling thread, and all that it starts, for good. Does nothing in a process that is not [armed](arm).
    /// A thread that cannot be confined ends the process.
    pub fn enter(self) {
        if self == Self::Device {
            home::go();
        }
        let Some(filters) = FILTERS.get() else { return };
        let given_up = match self {
            Self::Main | Self::Api => Ok(()),
            Self::Pin => rights::keep_for_pinning(),
            Self::Vcpu | Self::Device | Self::Events => rights::give_up(),
        };
        if let Err(error) = given_up {
            violation::unconfined(&error);
        }
        for (_, program) in filters.iter().filter(|(role, _)| *role == self) {
            if let Err(error) = seccompiler::apply_filter(program) {
                violation::unconfined(&error);
            }
        }
    }
}

/// How a process confines itself from its start, besides its system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The root directory from then on. Only root may.
    pub root: Option<PathBuf>,
    /// Who it goes on as. Only root may.
    pub user: Option<User>,
    /// The files that it reaches, if not whatever its user may.
    pub reach: Option<Reach>,
}

/// Why nothing can be confined.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// It cannot be who or where it should.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It keeps what it should give up.
    #[error("vmm cannot give up rights that it does not need")]
    Rights(#[from] RightsError),
    /// The table makes no filter.
    #[error("the table of system calls makes no filter")]
    Table(#[from] seccompiler::BackendError),
    /// The kernel takes no filter.
    #[error("the kernel takes no seccomp filter (CONFIG_SECCOMP_FILTER)")]
    Kernel(#[from] seccompiler::Error),
}

/// The filters of a process that is armed.
static FILTERS: OnceLock<Vec<(Role, BpfProgram)>> = OnceLock::new();

/// Confines this process for good: the calling thread as [`Role::Main`], others as they [enter](Role::enter) their roles. No
/// program that is executed later gains privileges (`no_new_privs`). Of the rights of root those stay that a machine takes to
/// build. `last` is called before the process ends for a violation, in a signal handler: it must be async-signal-safe.
///
/// # Errors
/// The kernel has no seccomp, or the process may not be confined so.
pub fn arm(confinement: &Confinement, last: fn()) -> Result<(), SandboxError> {
    let Confinement { root, user, reach } = confinement;
    if let Some(root) = root {
        identity::enter(root)?;
    }
    match user {
        Some(user) => user.become_it()?,
        None => identity::leave_groups(),
    }
    rights::keep_for_building()?;
    let mut filters = Vec::new();
    for role in Role::ALL {
        filters.extend(filter::refusals(role)?.into_iter().map(|program| (role, program)));
        filters.push((role, filter::of(role)?));
    }
    violation::explain(last);
    for (_, program) in filters.iter().filter(|(role, _)| *role == Role::Main) {
        seccompiler::apply_filter(program)?;
    }
    if let Some(reach) = reach {
        reach.confine().map_err(RightsError::Landlock)?;
    }
    FILTERS.get_or_init(|| filters);
    Ok(())
}

/// Takes from the calling thread, and those that it starts, what it takes to build a machine: all capabilities, and access to all
/// files but those of `reach`. For when all is open. Does nothing in a process that is not [armed](arm).
///
/// # Errors
/// The kernel does not do it.
pub fn settle(reach: &Reach) -> Result<(), RightsError> {
    if FILTERS.get().is_none() {
        return Ok(());
    }
    rights::give_up_capabilities()?;
    Ok(reach.confine()?)
}
