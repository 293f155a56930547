//! Split rings (virtio 1.3 §2.7), on the virtio-queue crate.
//!
//! That crate ends a chain at whatever is wrong with it, and interrupts a driver that has switched interrupts off
//! (VIRTQ_AVAIL_F_NO_INTERRUPT): both are seen to here.

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
}

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
        Ok(Self { ring, event_idx })
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

    pub(super) fn complete(&mut self, ram: &GuestRam, chain: &Chain, written: u32) -> Result<(), RingError> {
        Ok(self.ring.add_used(ram.guest_memory(), chain.id, written)?)
    }

    pub(super) fn wants_interrupt(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        if self.event_idx {
            return Ok(self.ring.needs_notification(ram.guest_memory())?);
        }
        // What was completed is seen before the flags are looked at.
        fence(Ordering::SeqCst);
        let flags: u16 = ram.guest_memory().load(GuestAddress(self.ring.avail_ring()), Ordering::Relaxed)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    pub(super) fn disable_kicks(&mut self, ram: &GuestRam) -> Result<(), RingError> {
        Ok(self.ring.disable_notification(ram.guest_memory())?)
    }

    pub(super) fn enable_kicks(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        Ok(self.ring.enable_notification(ram.guest_memory())?)
    }
}
