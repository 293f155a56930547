//! Memory that can be plugged into a guest while it runs, and what it cannot be had with.

use memory::Backing;
use memory::bytes::{Bytes, MIB};
use memory::plugged::BLOCK;
use miette::Diagnostic;
use thiserror::Error;

use crate::problem::{Class, Problems};
use crate::spec::MachineSpec;

/// What Linux brings into use at a time.
const STEP: u64 = 128 * MIB;

/// Room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemSpec {
    /// Bytes that the guest can have besides its RAM, at the most.
    pub size: u64,
    /// Bytes of them that it is to have from the start on.
    pub plugged: u64,
}

/// Memory that makes no sense, or that cannot be had.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum MemError {
    /// Nothing that a guest could bring into use.
    #[error("--hotplug-memory of {size} bytes is not a multiple of {}", Bytes(STEP))]
    #[diagnostic(help(
        "Linux brings memory into use by {} at a time: give whole GiB, as in --hotplug-memory 4G",
        Bytes(STEP)
    ))]
    Uneven {
        /// Asked for, in bytes.
        size: u64,
    },
    /// More than there is room for.
    #[error("{} of memory to be plugged in is more than the {} that there is room for", Bytes(*plugged), Bytes(*size))]
    #[diagnostic(help("raise the size of --hotplug-memory, or plug in less"))]
    TooMuch {
        /// Asked for.
        plugged: u64,
        /// Room.
        size: u64,
    },
    /// Not whole blocks.
    #[error("{plugged} bytes of memory to be plugged in are not a multiple of {}", Bytes(BLOCK))]
    #[diagnostic(help("give whole GiB, or a multiple of {}", Bytes(BLOCK)))]
    NoBlocks {
        /// Asked for.
        plugged: u64,
    },
    /// Pages of a pool are taken as memory is mapped, plugged in or not.
    #[error("memory that can be plugged in and huge pages cannot be had together")]
    #[diagnostic(help(
        "huge pages of a pool are set aside for all of it as the machine starts, so nothing is gained by plugging it in later: raise \
         --memory instead of --hotplug-memory, or leave out --hugepages"
    ))]
    BesideHugePages,
}

impl MemSpec {
    /// Whether so many bytes can be plugged in.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, plugged: u64) -> Result<(), MemError> {
        match plugged {
            plugged if plugged > self.size => Err(MemError::TooMuch { plugged, size: self.size }),
            plugged if !plugged.is_multiple_of(BLOCK) => Err(MemError::NoBlocks { plugged }),
            _ => Ok(()),
        }
    }
}

/// What is wrong with it in a machine whatever the host.
pub(crate) fn validate(spec: &MachineSpec, problems: &mut Problems) {
    let Some(pluggable) = &spec.pluggable else { return };
    if pluggable.size == 0 || !pluggable.size.is_multiple_of(STEP) {
        problems.add(Class::Usage, MemError::Uneven { size: pluggable.size });
    }
    problems.keep(Class::Usage, pluggable.check(pluggable.plugged));
    if spec.backing != Backing::Pages {
        problems.add(Class::Usage, MemError::BesideHugePages);
    }
}
