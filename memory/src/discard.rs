//! Giving pages of guest RAM back to the host while the guest runs: holes in the memfd (fallocate(2), FALLOC_FL_PUNCH_HOLE). The
//! guest reads zeros there, and has a new page where it touches one.
//!
//! A page that a device may reach must stay: the device would go on with the old one, which is the host's then. So nobody
//! may call this while memory is pinned.

use std::io;

use rustix::fs::{FallocateFlags, fallocate};

use crate::{GuestRam, GuestRange, PAGE_SIZE};

/// Why pages are not given back.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// Not all of it is RAM.
    #[error("{0} is not in guest memory")]
    NotRam(GuestRange),
    /// The host refuses.
    #[error("the host does not take back {range}")]
    Host {
        /// What was to be given back.
        range: GuestRange,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl GuestRam {
    /// Gives those pages back that lie wholly in `range`.
    ///
    /// # Errors
    /// Part of the range is no RAM, in which case nothing is done, or the host refuses.
    pub fn discard(&self, range: GuestRange) -> Result<(), DiscardError> {
        let shared = |region: GuestRange| {
            let start = region.start.max(range.start);
            let size = region.end().min(range.end()).checked_sub(start)?;
            Some(GuestRange::new(start, size)).filter(|shared| !shared.is_empty())
        };
        let parts: Vec<_> = self.regions().iter().filter_map(|it| Some((it, shared(it.guest)?))).collect();
        if parts.iter().map(|(_, part)| part.size).sum::<u64>() != range.size {
            return Err(DiscardError::NotRam(range));
        }
        for (region, part) in parts {
            let start = part.start.next_multiple_of(PAGE_SIZE);
            let end = part.end() / PAGE_SIZE * PAGE_SIZE;
            let Some(size) = end.checked_sub(start).filter(|size| *size > 0) else { continue };
            let offset = region.offset + (start - region.guest.start);
            fallocate(self.memfd(), FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, size)
                .map_err(|error| DiscardError::Host { range: part, source: error.into() })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "discard_test.rs"]
mod tests;
