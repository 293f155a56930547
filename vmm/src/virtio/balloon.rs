//! A guest's memory balloon, and what it cannot be had with.

use std::sync::Arc;
use std::time::Duration;

use devices::pci::PciAddress;
use devices::virtio::balloon::{Balloon, BalloonOptions};
use memory::bytes::Bytes;
use memory::{Backing, PAGE_SIZE};
use miette::Diagnostic;
use thiserror::Error;

use crate::problem::{Class, Problems};
use crate::spec::MachineSpec;

/// How often a guest is asked for statistics, unless it is said otherwise.
pub const USUAL_PERIOD: Duration = Duration::from_secs(10);

/// A balloon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalloonSpec {
    /// Bytes that the guest is asked for at first.
    pub size: u64,
    /// Whether the guest tells of pages that are free.
    pub free_page_reporting: bool,
    /// Whether the guest may take pages back when it runs out of memory.
    pub deflate_on_oom: bool,
    /// How often the guest is asked for statistics; zero for never.
    pub statistics: Duration,
}

/// A balloon that makes no sense, or that cannot be had.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum BalloonError {
    /// Not whole pages.
    #[error("a balloon of {0} bytes is not a multiple of {PAGE_SIZE}")]
    #[diagnostic(help("give whole MiB or GiB, as in --balloon 512M"))]
    Unaligned(u64),
    /// More than there is.
    #[error("a balloon of {} is larger than the machine, which has {}", Bytes(*size), Bytes(*memory))]
    #[diagnostic(help("give less than --memory; a guest gives what it can spare and no more"))]
    TooLarge {
        /// Asked for.
        size: u64,
        /// RAM.
        memory: u64,
    },
    /// A device that writes to memory by itself.
    #[error("a balloon and a passed-through device ({}) cannot be had together", addresses(.0))]
    #[diagnostic(help(
        "all memory is pinned for the device, which may write anywhere in it, so none can be given back while it is there: leave \
         out --balloon or --vfio"
    ))]
    BesideVfio(Vec<PciAddress>),
    /// Guests give pages of [`PAGE_SIZE`].
    #[error("a balloon and huge pages cannot be had together")]
    #[diagnostic(help(
        "a guest gives its memory back by pages of 4 KiB, of which no huge page can be made: leave out --balloon or --hugepages"
    ))]
    BesideHugePages,
}

fn addresses(addresses: &[PciAddress]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether a machine with this memory can have a balloon of this size.
///
/// # Errors
/// Why not.
pub(crate) fn check_size(size: u64, memory: u64) -> Result<(), BalloonError> {
    match size {
        size if size > memory => Err(BalloonError::TooLarge { size, memory }),
        size if !size.is_multiple_of(PAGE_SIZE) => Err(BalloonError::Unaligned(size)),
        _ => Ok(()),
    }
}

/// What is wrong with the balloon of a machine whatever the host.
pub(crate) fn validate(spec: &MachineSpec, problems: &mut Problems) {
    let Some(balloon) = &spec.virtio.balloon else { return };
    problems.keep(Class::Usage, check_size(balloon.size, spec.memory));
    if !spec.vfio.is_empty() {
        problems.add(Class::Usage, BalloonError::BesideVfio(spec.vfio.addresses()));
    }
    if spec.backing != Backing::Pages {
        problems.add(Class::Usage, BalloonError::BesideHugePages);
    }
}

impl BalloonSpec {
    /// The device.
    pub(super) fn device(&self) -> Arc<Balloon> {
        Arc::new(Balloon::new(BalloonOptions {
            size: self.size,
            free_page_reporting: self.free_page_reporting,
            deflate_on_oom: self.deflate_on_oom,
            statistics: Some(self.statistics).filter(|period| !period.is_zero()),
        }))
    }
}

#[cfg(test)]
#[path = "balloon_test.rs"]
mod tests;
