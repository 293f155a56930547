//! The guest's memory map in the terms of BIOS function 0xe820 (ACPI specification, section 15).

use memory::GuestRange;

use super::map;
use super::ranges::{subtract, union};

/// What a range is for. The values are those of e820, which PVH's memory map shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum E820Kind {
    /// Usable RAM.
    Ram = 1,
    /// Not to be touched, nor given to a device.
    Reserved = 2,
}

/// One entry of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct E820Entry {
    /// Guest physical addresses.
    pub range: GuestRange,
    /// What they are for.
    pub kind: E820Kind,
}

/// The map: all of `ram` that is not reserved, then `reserved` and the PC's hole below 1 MiB; sorted by
/// address, no two entries overlap, none is empty.
pub fn e820(ram: &[GuestRange], reserved: &[GuestRange]) -> Vec<E820Entry> {
    let reserved = union(reserved.iter().copied().chain([map::ISA]));
    let usable = subtract(&union(ram.iter().copied()), &reserved);
    let entry = |kind| move |range| E820Entry { range, kind };
    let mut entries: Vec<E820Entry> = usable.into_iter().map(entry(E820Kind::Ram)).collect();
    entries.extend(reserved.into_iter().map(entry(E820Kind::Reserved)));
    entries.sort_unstable_by_key(|entry| entry.range.start);
    entries
}

#[cfg(test)]
#[path = "e820_test.rs"]
mod tests;
