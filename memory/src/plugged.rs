//! Memory that comes and goes while the guest runs: a region above its RAM, and which blocks of it are plugged in. All of the
//! region has its place in every address space from the start; pages it has where it is used.
//!
//! A block that is unplugged is given back to the host, unless something still pins it for a device: then it is held, and stays
//! allocated until it is plugged in again or the devices are gone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bytes::MIB;
use crate::pin::Chunk;
use crate::{GuestRange, RamRegion};

/// What is plugged in at a time, in bytes: a huge page of x86_64, and what pinning narrows culprits down to.
pub const BLOCK: u64 = 2 * MIB;

/// What the blocks of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// All of them are plugged in.
    Plugged,
    /// None is.
    Unplugged,
    /// Some are.
    Mixed,
}

/// The region, and its blocks.
#[derive(Debug)]
pub struct PluggedMemory {
    region: RamRegion,
    bits: Mutex<Bits>,
}

#[derive(Debug)]
struct Bits {
    plugged: Bitmap,
    held: Bitmap,
}

/// A bit for each block.
#[derive(Clone, Debug)]
struct Bitmap(Vec<u64>);

impl Bitmap {
    fn get(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn set(&mut self, index: usize, to: bool) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word = *word & !(1 << (index % 64)) | u64::from(to) << (index % 64);
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

impl PluggedMemory {
    /// Of a region of whole blocks, none of which is plugged in.
    pub(crate) fn new(region: RamRegion) -> Self {
        let words = region.guest.size.div_ceil(BLOCK).div_ceil(64) as usize;
        let none = Bitmap(vec![0; words]);
        Self { region, bits: Mutex::new(Bits { plugged: none.clone(), held: none }) }
    }

    /// Where it lies.
    pub fn region(&self) -> RamRegion {
        self.region
    }

    /// How much of it is plugged in, in bytes.
    pub fn size(&self) -> u64 {
        self.bits().plugged.count() * BLOCK
    }

    /// What the blocks of `range` are; `None` if these are not whole blocks of the region, or none at all.
    pub fn look(&self, range: GuestRange) -> Option<Blocks> {
        let indices = self.indices(range)?;
        let all = indices.len();
        let bits = self.bits();
        let plugged = indices.filter(|index| bits.plugged.get(*index)).count();
        Some(match plugged {
            0 => Blocks::Unplugged,
            plugged if plugged == all => Blocks::Plugged,
            _ => Blocks::Mixed,
        })
    }

    /// Notes that all blocks of `range` are plugged in, or none.
    pub fn note(&self, range: GuestRange, plugged: bool) {
        let mut bits = self.bits();
        self.indices(range).into_iter().flatten().for_each(|index| bits.plugged.set(index, plugged));
    }

    /// Notes whether a block is still pinned though it is not plugged in.
    pub fn hold(&self, block: &Chunk, held: bool) {
        let mut bits = self.bits();
        self.indices(block.guest).into_iter().flatten().for_each(|index| bits.held.set(index, held));
    }

    /// Whether it is.
    pub fn is_held(&self, block: &Chunk) -> bool {
        let bits = self.bits();
        self.indices(block.guest).is_some_and(|mut indices| indices.any(|index| bits.held.get(index)))
    }

    /// The blocks that are plugged in, those of `range` only.
    pub fn plugged(&self, range: GuestRange) -> Vec<Chunk> {
        let bits = self.bits();
        self.indices(range)
            .into_iter()
            .flatten()
            .filter(|index| bits.plugged.get(*index))
            .map(|it| self.block(it))
            .collect()
    }

    /// The blocks of `range`.
    pub fn blocks(&self, range: GuestRange) -> Vec<Chunk> {
        self.indices(range).into_iter().flatten().map(|index| self.block(index)).collect()
    }

    fn block(&self, index: usize) -> Chunk {
        let start = index as u64 * BLOCK;
        let RamRegion { guest, hva, offset } = self.region;
        Chunk { guest: GuestRange::new(guest.start + start, BLOCK), hva: hva + start, offset: offset + start }
    }

    fn indices(&self, range: GuestRange) -> Option<std::ops::Range<usize>> {
        let region = &self.region.guest;
        let start = range.start.checked_sub(region.start)?;
        let whole = start.is_multiple_of(BLOCK) && range.size.is_multiple_of(BLOCK) && !range.is_empty();
        let end = start.checked_add(range.size)?;
        (whole && end <= region.size).then_some((start / BLOCK) as usize..(end / BLOCK) as usize)
    }

    fn bits(&self) -> MutexGuard<'_, Bits> {
        self.bits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "plugged_test.rs"]
mod tests;
