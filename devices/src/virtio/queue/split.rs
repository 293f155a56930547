//! Split rings (virtio 1.3 §2.7), on the virtio-queue crate.
//!
//! That crate ends a chain at whatever is wrong with it, completes one chain at a time, and interrupts a driver that has
//! switched interrupts off (VIRTQ_AVAIL_F_NO_INTERRUPT): all three are seen to here.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use memory::GuestRam;
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Error, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::{Chain, MOST_SIZE, RingAddresses, RingError};

pub(super) struct SplitRing {
    ring: virtio_queue::Queue,
    event_idx: bool,
    /// Chains completed since the driver was last considered for an interrupt.
    fresh: u16,
}

/// Offsets in the rings, and bytes of a used entry.
const AVAILABLE_ENTRIES: u64 = 4;
const USED_ENTRIES: u64 = 4;
const USED_ENTRY: u64 = 8;

impl SplitRing {
    pub(super) fn new(at: &RingAddresses, event_idx: bool, ram: &GuestRam) -> Result<Self, RingError> {
        let RingAddresses { size, descriptors, driver, device } = *at;
        let unusable = RingError::Ring { size, descriptors, driver, device };
        if size == 0 || size > MOST_SIZE || !size.is_power_of_two() {
            return Err(unusable);
        }
        let mut ring = virtio_queue::Queue::new(size)?;
        ring.try_set_desc_table_address(GuestAddress(descriptors))?;
        ring.try_set_avail_ring_address(GuestAddress(driver))?;
        ring.try_set_used_ring_address(GuestAddress(device))?;
        ring.set_event_idx(event_idx);
        ring.set_ready(true);
        if driver == 0 || !ring.is_valid(ram.guest_memory()) {
            return Err(unusable);
        }
        Ok(Self { ring, event_idx, fresh: 0 })
    }

    pub(super) fn pop(&mut self, ram: &Arc<GuestRam>) -> Result<Option<Chain>, RingError> {
        let mut available = self.ring.iter(ram.guest_memory()).map_err(|error| match error {
            Error::InvalidAvailRingIndex => RingError::Overfull,
            error => RingError::Split(error),
        })?;
        let Some(descriptors) = available.next() else { return Ok(None) };
        let mut chain = Chain::new(ram);
        chain.id = descriptors.head_index();
        chain.entries = 1;
        let mut ends = false;
        for descriptor in descriptors {
            chain.push(descriptor.addr().0, descriptor.len(), descriptor.is_write_only())?;
            ends = !descriptor.has_next();
        }
        if ends { Ok(Some(chain)) } else { Err(RingError::Broken) }
    }

    pub(super) fn complete<C: Borrow<Chain>>(
        &mut self,
        ram: &GuestRam,
        chains: &[(C, u32)],
    ) -> Result<(), RingError> {
        let Some(((last, written), others)) = chains.split_last() else { return Ok(()) };
        let memory = ram.guest_memory();
        let mut next = self.ring.next_used();
        for (chain, written) in others {
            let place = u64::from(next % self.ring.size());
            let entry = u64::from(chain.borrow().id) | u64::from(*written) << 32;
            let at = GuestAddress(self.ring.used_ring() + USED_ENTRIES + place * USED_ENTRY);
            memory.write_slice(&entry.to_le_bytes(), at)?;
            next = next.wrapping_add(1);
        }
        // The index after all of them is written with the last.
        self.ring.set_next_used(next);
        self.fresh = self.fresh.saturating_add(chains.len() as u16);
        Ok(self.ring.add_used(memory, last.borrow().id, *written)?)
    }

    pub(super) fn wants_interrupt(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        // What was completed is seen before it is looked at what the driver wants.
        fence(Ordering::SeqCst);
        let load = |at: u64| ram.guest_memory().load(GuestAddress(at), Ordering::Relaxed).map(u16::from_le);
        let fresh = std::mem::take(&mut self.fresh);
        let available = self.ring.avail_ring();
        if self.event_idx {
            let event = load(available + AVAILABLE_ENTRIES + u64::from(self.ring.size()) * 2)?;
            // Whether the entry that the driver waits for is among the last `fresh`.
            return Ok(self.ring.next_used().wrapping_sub(event).wrapping_sub(1) < fresh);
        }
        Ok(fresh > 0 && u32::from(load(available)?) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    pub(super) fn disable_kicks(&mut self, ram: &GuestRam) -> Result<(), RingError> {
        Ok(self.ring.disable_notification(ram.guest_memory())?)
    }

    pub(super) fn enable_kicks(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        Ok(self.ring.enable_notification(ram.guest_memory())?)
    }
}
