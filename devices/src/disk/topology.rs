//! What a guest should know of the blocks behind its disk, so that it asks for what is cheap there.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::file::Opened;
use super::sys;

/// Blocks of a disk, in bytes. All are powers of two, or 0 for those that say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// What requests are multiples of.
    pub logical: u32,
    /// What is written without being read first.
    pub physical: u32,
    /// The least that is sensible to ask for.
    pub minimum: u32,
    /// What is best asked for at once. 0: no matter.
    pub optimal: u32,
    /// What is given back as a whole.
    pub discard: u32,
}

impl Topology {
    /// Of a raw image.
    ///
    /// # Errors
    /// The host does not say.
    pub(super) fn of_raw(opened: &Opened) -> io::Result<Self> {
        let metadata = opened.file.metadata()?;
        let topology = if opened.block {
            let sizes = sys::block_sizes(&opened.file)?;
            let discard = discard_granularity(metadata.rdev()).unwrap_or(sizes.physical);
            Self {
                logical: sizes.logical,
                physical: sizes.physical,
                minimum: sizes.minimum,
                optimal: sizes.optimal,
                discard,
            }
        } else {
            let block = u32::try_from(metadata.blksize()).unwrap_or(4096);
            let logical = opened.direct.map_or(512, |direct| direct.block);
            Self { logical, physical: block, minimum: block, optimal: 0, discard: block }
        };
        Ok(topology.made_sensible())
    }

    /// Of an image that gives out its file in clusters.
    pub(super) fn of_clusters(cluster: u64) -> Self {
        let cluster = u32::try_from(cluster).unwrap_or(0);
        Self { logical: 512, physical: 4096, minimum: 4096, optimal: cluster, discard: cluster }
            .made_sensible()
    }

    /// Whatever the host says: a guest's driver must be able to rely on it.
    fn made_sensible(self) -> Self {
        let logical = if self.logical.is_power_of_two() { self.logical.clamp(512, 1 << 16) } else { 512 };
        let or_zero = |size: u32| if size.is_multiple_of(logical) { size } else { 0 };
        let at_least = |size: u32| if size.is_power_of_two() { size.max(logical) } else { logical };
        Self {
            logical,
            physical: at_least(self.physical),
            minimum: or_zero(self.minimum).max(logical),
            optimal: or_zero(self.optimal),
            discard: or_zero(self.discard).max(logical),
        }
    }
}

/// What a block device gives back as a whole; a partition's is its disk's.
fn discard_granularity(device: u64) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let read = |below: &str| {
        let path = format!("/sys/dev/block/{major}:{minor}/{below}queue/discard_granularity");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    read("").or_else(|| read("../")).filter(|&bytes| bytes > 0)
}

/// Whether blocks of the image can be given back to the host.
pub(super) fn can_discard(file: &File, block: bool) -> bool {
    match file.metadata() {
        Ok(metadata) if block => discard_granularity(metadata.rdev()).is_some(),
        // Those that cannot make holes say so when asked, and then nothing happens.
        result => result.is_ok(),
    }
}

#[cfg(test)]
#[path = "topology_test.rs"]
mod tests;
