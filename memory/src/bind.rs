//! RAM on NUMA nodes of the host that somebody has chosen (mbind(2)). The policy is the memfd's (mm/shmem.c), so that pages come
//! from there whoever touches them first: a vCPU, a helper that pins, or a daemon.
//!
//! # Unsafe
//! `mbind`, which no crate has.
#![expect(unsafe_code, reason = "mbind(2)")]

use std::io;

use crate::{GuestRam, GuestRange, RamError, RamRegion};

/// linux/mempolicy.h: from these nodes and no others.
const MPOL_BIND: libc::c_int = 2;
/// Nodes of a host at the most (1 << CONFIG_NODES_SHIFT).
const MOST_NODES: usize = 1024;

impl GuestRam {
    /// Has the pages of `range` come from this node of the host, which has to be done before there are any.
    ///
    /// # Errors
    /// The host has no such node, or not for this process.
    pub fn bind(&mut self, range: GuestRange, node: u32) -> Result<(), RamError> {
        let parts = self.regions().iter().filter_map(|region| part(region, range));
        let parts: Vec<RamRegion> = parts.collect();
        for part in parts {
            bind(part.hva, part.guest.size, node).map_err(|source| RamError::Bind {
                guest: part.guest,
                node,
                source,
            })?;
        }
        self.bound.push((range, node));
        Ok(())
    }

    /// The node of the host that a part of RAM is bound to, if it is.
    pub(crate) fn bound_to(&self, guest: GuestRange) -> Option<u32> {
        self.bound.iter().find(|(range, _)| range.overlaps(&guest)).map(|(_, node)| *node)
    }
}

/// The part of a region inside `range`, if there is any.
pub(crate) fn part(region: &RamRegion, range: GuestRange) -> Option<RamRegion> {
    let start = region.guest.start.max(range.start);
    let size = region.guest.end().min(range.end()).checked_sub(start).filter(|size| *size > 0)?;
    let skipped = start - region.guest.start;
    Some(RamRegion {
        guest: GuestRange::new(start, size),
        hva: region.hva + skipped,
        offset: region.offset + skipped,
    })
}

fn bind(hva: u64, size: u64, node: u32) -> io::Result<()> {
    let mut nodes = [0_u64; MOST_NODES / 64];
    let word = nodes.get_mut(node as usize / 64).ok_or(io::ErrorKind::InvalidInput)?;
    *word = 1 << (node % 64);
    // SAFETY: the mask has as many bits as are said, of which the kernel leaves the last out (`get_nodes`, mm/mempolicy.c); a policy
    // changes no content, whatever lies there.
    let done =
        unsafe { libc::syscall(libc::SYS_mbind, hva, size, MPOL_BIND, nodes.as_ptr(), MOST_NODES + 1, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
#[path = "bind_test.rs"]
mod tests;
