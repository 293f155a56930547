//! Packed rings (virtio 1.3 §2.8).
//!
//! One ring of descriptors is written by both sides. Whether an entry is available or used is told by two bits of its
//! flags together with a wrap counter, which each side keeps and turns over at the end of the ring.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use memory::GuestRam;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use super::{Chain, MOST_DESCRIPTORS, MOST_SIZE, RingAddresses, RingError};

const DESCRIPTOR: u64 = 16;
/// Offset of the flags in a descriptor.
const FLAGS: u64 = 14;
const NEXT: u16 = 1 << 0;
const WRITE: u16 = 1 << 1;
const INDIRECT: u16 = 1 << 2;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Event suppression (§2.8.10): an offset with the wrap counter on top, and flags.
const EVENT_SIZE: usize = 4;
const EVENT_FLAGS: u64 = 2;
const EVENT_ENABLE: u16 = 0;
const EVENT_DISABLE: u16 = 1;
const EVENT_AT: u16 = 2;
const EVENT_WRAP: u16 = 1 << 15;

pub(super) struct PackedRing {
    size: u16,
    descriptors: u64,
    driver: u64,
    device: u64,
    event_idx: bool,
    available: Position,
    used: Position,
    /// Entries used since the driver was last asked whether it wants an interrupt.
    fresh: u16,
}

/// A place in the ring, and which lap it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    index: u16,
    wrap: bool,
}

impl Position {
    const START: Self = Self { index: 0, wrap: true };

    /// `by` is at most `size`.
    fn advance(&mut self, by: u16, size: u16) {
        let index = u32::from(self.index) + u32::from(by);
        self.wrap ^= index >= u32::from(size);
        self.index = (index % u32::from(size)) as u16;
    }

    fn event(self) -> u16 {
        self.index | if self.wrap { EVENT_WRAP } else { 0 }
    }

    fn flags(self) -> u16 {
        if self.wrap { AVAILABLE | USED } else { 0 }
    }
}

struct Descriptor {
    address: u64,
    length: u32,
    id: u16,
    flags: u16,
}

impl Descriptor {
    /// Reads one, with its flags as they were seen before.
    fn read(ram: &GuestRam, at: u64) -> Result<Self, RingError> {
        let mut bytes = [0; DESCRIPTOR as usize];
        ram.guest_memory().read_slice(&mut bytes, GuestAddress(at))?;
        let word = u128::from_le_bytes(bytes);
        Ok(Self {
            address: word as u64,
            length: (word >> 64) as u32,
            id: (word >> 96) as u16,
            flags: (word >> 112) as u16,
        })
    }
}

impl PackedRing {
    pub(super) fn new(at: &RingAddresses, event_idx: bool, ram: &GuestRam) -> Result<Self, RingError> {
        let RingAddresses { size, descriptors, driver, device } = *at;
        let bytes = usize::from(size) * DESCRIPTOR as usize;
        let lies = |address: u64, bytes: usize, align: u64, access: Permissions| {
            address.is_multiple_of(align)
                && GuestMemory::check_range(ram.guest_memory(), GuestAddress(address), bytes, access)
        };
        let good = size > 0
            && size <= MOST_SIZE
            && lies(descriptors, bytes, DESCRIPTOR, Permissions::ReadWrite)
            && lies(driver, EVENT_SIZE, 4, Permissions::Read)
            && lies(device, EVENT_SIZE, 4, Permissions::Write);
        if !good {
            return Err(RingError::Ring { size, descriptors, driver, device });
        }
        let (available, used) = (Position::START, Position::START);
        Ok(Self { size, descriptors, driver, device, event_idx, available, used, fresh: 0 })
    }

    pub(super) fn pop(&mut self, ram: &Arc<GuestRam>) -> Result<Option<Chain>, RingError> {
        if !self.has_available(ram, Ordering::Acquire)? {
            return Ok(None);
        }
        let mut chain = Chain::new(ram);
        let mut at = self.available;
        loop {
            let descriptor = Descriptor::read(ram, self.address(at.index))?;
            at.advance(1, self.size);
            chain.entries += 1;
            chain.id = descriptor.id;
            match (descriptor.flags & INDIRECT != 0, descriptor.flags & NEXT != 0) {
                // An indirect table stands alone (§2.8.19).
                (true, true) => return Err(RingError::Broken),
                (true, false) if chain.entries > 1 => return Err(RingError::Broken),
                (true, false) => push_table(&mut chain, ram, &descriptor)?,
                (false, _) => {
                    chain.push(descriptor.address, descriptor.length, descriptor.flags & WRITE != 0)?;
                }
            }
            if descriptor.flags & NEXT == 0 {
                break;
            }
            if chain.entries >= self.size {
                return Err(RingError::Broken);
            }
        }
        self.available = at;
        Ok(Some(chain))
    }

    pub(super) fn complete<C: Borrow<Chain>>(
        &mut self,
        ram: &GuestRam,
        chains: &[(C, u32)],
    ) -> Result<(), RingError> {
        let memory = ram.guest_memory();
        let mut first = None;
        for (chain, written) in chains {
            let chain = chain.borrow();
            let at = self.address(self.used.index);
            let id = u64::from(chain.id) << 32;
            memory.write_slice(&(id | u64::from(*written)).to_le_bytes()[..6], GuestAddress(at + 8))?;
            let write = if *written > 0 { WRITE } else { 0 };
            let flags = (self.used.flags() | write).to_le();
            match first {
                None => first = Some((at, flags)),
                Some(_) => memory.store(flags, GuestAddress(at + FLAGS), Ordering::Release)?,
            }
            self.used.advance(chain.entries, self.size);
            self.fresh = self.fresh.saturating_add(chain.entries).min(self.size);
        }
        // The flags of the first one last: from then on they are the driver's, which takes them in order.
        if let Some((at, flags)) = first {
            memory.store(flags, GuestAddress(at + FLAGS), Ordering::Release)?;
        }
        Ok(())
    }

    pub(super) fn wants_interrupt(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        fence(Ordering::SeqCst);
        let fresh = std::mem::take(&mut self.fresh);
        let memory = ram.guest_memory();
        let flags: u16 = memory.load(GuestAddress(self.driver + EVENT_FLAGS), Ordering::Acquire)?;
        match u16::from_le(flags) & 0b11 {
            EVENT_ENABLE => Ok(fresh > 0),
            EVENT_AT if self.event_idx => {
                let event: u16 = memory.load(GuestAddress(self.driver), Ordering::Relaxed)?;
                Ok(passed(u16::from_le(event), self.used, fresh, self.size))
            }
            _ => Ok(false),
        }
    }

    pub(super) fn disable_kicks(&mut self, ram: &GuestRam) -> Result<(), RingError> {
        self.set_event(ram, EVENT_DISABLE)
    }

    pub(super) fn enable_kicks(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        if self.event_idx {
            let event = self.available.event().to_le();
            ram.guest_memory().store(event, GuestAddress(self.device), Ordering::Relaxed)?;
            // The offset is there when the flags say so.
            fence(Ordering::Release);
            self.set_event(ram, EVENT_AT)?;
        } else {
            self.set_event(ram, EVENT_ENABLE)?;
        }
        fence(Ordering::SeqCst);
        self.has_available(ram, Ordering::Relaxed)
    }

    fn set_event(&self, ram: &GuestRam, flags: u16) -> Result<(), RingError> {
        let at = GuestAddress(self.device + EVENT_FLAGS);
        Ok(ram.guest_memory().store(flags.to_le(), at, Ordering::Relaxed)?)
    }

    fn has_available(&self, ram: &GuestRam, order: Ordering) -> Result<bool, RingError> {
        let at = GuestAddress(self.address(self.available.index) + FLAGS);
        let flags = u16::from_le(ram.guest_memory().load(at, order)?);
        let (available, used) = (flags & AVAILABLE != 0, flags & USED != 0);
        Ok(available == self.available.wrap && used != self.available.wrap)
    }

    fn address(&self, index: u16) -> u64 {
        self.descriptors + u64::from(index) * DESCRIPTOR
    }
}

/// Appends the buffers of an indirect table, whose entries follow each other (§2.8.8).
fn push_table(chain: &mut Chain, ram: &GuestRam, table: &Descriptor) -> Result<(), RingError> {
    let entries = u64::from(table.length) / DESCRIPTOR;
    if entries == 0 || !u64::from(table.length).is_multiple_of(DESCRIPTOR) {
        return Err(RingError::Broken);
    }
    if entries > MOST_DESCRIPTORS as u64 {
        return Err(RingError::TooLong);
    }
    let (address, length) = (table.address, table.length);
    let memory = ram.guest_memory();
    if !GuestMemory::check_range(memory, GuestAddress(address), length as usize, Permissions::Read) {
        return Err(RingError::Buffer { address, length });
    }
    for entry in 0..entries {
        let descriptor = Descriptor::read(ram, address + entry * DESCRIPTOR)?;
        chain.push(descriptor.address, descriptor.length, descriptor.flags & WRITE != 0)?;
    }
    Ok(())
}

/// Whether the entry that the driver waits for is among the last `fresh` before `used`. An offset outside the ring is none.
fn passed(event: u16, used: Position, fresh: u16, size: u16) -> bool {
    let (index, wrap) = (i32::from(event & !EVENT_WRAP), event & EVENT_WRAP != 0);
    let lap = if wrap == used.wrap { 0 } else { i32::from(size) };
    let distance = i32::from(used.index) + lap - index;
    index < i32::from(size) && (1..=i32::from(fresh)).contains(&distance)
}

#[cfg(test)]
#[path = "packed_test.rs"]
mod tests;
