//! A virtqueue from the device's side (virtio 1.3 §2.6): chains of buffers that the driver makes available, and that the
//! device gives back as used. Split rings are those of the virtio-queue crate, packed ones are in `packed.rs`.

mod chain;
mod packed;
mod split;

use std::borrow::Borrow;
use std::io;
use std::sync::Arc;

use event_manager::{EventSet, Events};
use memory::{GuestRam, GuestRange};
use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::EventFd;

pub use chain::{Chain, Reader, Segment, Writer};

use super::interrupts::Notifier;
use packed::PackedRing;
use split::SplitRing;

/// Descriptors a chain may have, whatever the size of its queue. Linux makes chains of up to 256.
pub const MOST_DESCRIPTORS: usize = 1024;
/// Largest size of a queue (§2.6).
pub const MOST_SIZE: u16 = 32768;

/// What a driver did to a ring that no device can serve.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The ring itself is not in RAM, or not aligned, or its size is none.
    #[error("its ring of {size} entries at {descriptors:#x}, {driver:#x} and {device:#x} cannot be used")]
    Ring {
        /// Entries.
        size: u16,
        /// GPA of the descriptors.
        descriptors: u64,
        /// GPA of the driver area.
        driver: u64,
        /// GPA of the device area.
        device: u64,
    },
    /// A buffer is not in RAM.
    #[error("a buffer of {length:#x} bytes at {address:#x} is not in guest memory")]
    Buffer {
        /// GPA.
        address: u64,
        /// Bytes.
        length: u32,
    },
    /// A buffer that the device reads comes after one that it writes (§2.6.4.2).
    #[error("a chain has a readable buffer after a writable one")]
    Order,
    /// A chain without an end, with an index outside the ring, or with a bad indirect table.
    #[error("a chain is broken off, loops, or has a bad indirect table")]
    Broken,
    /// A chain with more descriptors than anybody needs.
    #[error("a chain has too many descriptors")]
    TooLong,
    /// More chains are made available than fit the ring.
    #[error("more chains are made available than the ring has entries")]
    Overfull,
    /// A request is shorter than its kind needs; the device cannot answer it.
    #[error("a {0} does not have the buffers that it needs")]
    Request(&'static str),
    /// Pages that the driver gives, or asks for, are not in RAM.
    #[error("the pages at {0} are not in guest memory")]
    Pages(GuestRange),
    /// The host refuses what the device needs to go on.
    #[error("the host refuses what it needs")]
    Host(#[source] io::Error),
    /// The virtio-queue crate refuses.
    #[error("its ring cannot be used")]
    Split(#[from] virtio_queue::Error),
    /// Guest memory cannot be accessed.
    #[error("guest memory cannot be accessed")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// A chain's buffers cannot be read or written.
    #[error("the buffers of a chain cannot be accessed")]
    Access(#[source] io::Error),
}

/// Where a driver put a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingAddresses {
    /// Entries.
    pub size: u16,
    /// GPA of the descriptor table, or of the packed ring.
    pub descriptors: u64,
    /// GPA of the driver area: available ring, or event suppression.
    pub driver: u64,
    /// GPA of the device area: used ring, or event suppression.
    pub device: u64,
}

/// A queue that the driver has enabled.
pub struct Queue {
    index: u16,
    addresses: RingAddresses,
    ring: Ring,
    ram: Arc<GuestRam>,
    kick: EventFd,
    notifier: Notifier,
}

enum Ring {
    Split(SplitRing),
    Packed(PackedRing),
}

impl Queue {
    /// The queue `index` at `addresses`, its ring as the negotiated `features` say.
    ///
    /// # Errors
    /// The ring is not in RAM, or misaligned.
    pub fn new(
        index: u16,
        addresses: RingAddresses,
        features: u64,
        ram: Arc<GuestRam>,
        kick: EventFd,
        notifier: Notifier,
    ) -> Result<Self, RingError> {
        let has = |bit: u32| features >> bit & 1 != 0;
        let event_idx = has(VIRTIO_RING_F_EVENT_IDX);
        let ring = if has(VIRTIO_F_RING_PACKED) {
            Ring::Packed(PackedRing::new(&addresses, event_idx, &ram)?)
        } else {
            Ring::Split(SplitRing::new(&addresses, event_idx, &ram)?)
        };
        Ok(Self { index, addresses, ring, ram, kick, notifier })
    }

    /// Its number.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Where the driver put it.
    pub fn addresses(&self) -> &RingAddresses {
        &self.addresses
    }

    /// Signalled when the driver has made chains available.
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// Raises the queue's interrupt, and says what is wrong with the device.
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The memory its chains lie in.
    pub fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    /// The next chain that the driver has made available.
    ///
    /// # Errors
    /// The driver broke the ring: nothing more is to be had of it.
    pub fn pop(&mut self) -> Result<Option<Chain>, RingError> {
        match &mut self.ring {
            Ring::Split(ring) => ring.pop(&self.ram),
            Ring::Packed(ring) => ring.pop(&self.ram),
        }
    }

    /// Gives a chain back, of which the device wrote `written` bytes from the front of the writable buffers.
    ///
    /// # Errors
    /// The ring's memory cannot be written.
    pub fn complete(&mut self, chain: &Chain, written: u32) -> Result<(), RingError> {
        self.complete_all(&[(chain, written)])
    }

    /// The same for several chains, each with what was written: the driver sees all of them, or none.
    ///
    /// # Errors
    /// As for [`Queue::complete`].
    pub fn complete_all<C: Borrow<Chain>>(&mut self, chains: &[(C, u32)]) -> Result<(), RingError> {
        match &mut self.ring {
            Ring::Split(ring) => ring.complete(&self.ram, chains),
            Ring::Packed(ring) => ring.complete(&self.ram, chains),
        }
    }

    /// Interrupts the driver if it wants to hear of what was completed since the last call.
    ///
    /// # Errors
    /// The ring's memory cannot be read.
    pub fn notify(&mut self) -> Result<(), RingError> {
        let wanted = match &mut self.ring {
            Ring::Split(ring) => ring.wants_interrupt(&self.ram)?,
            Ring::Packed(ring) => ring.wants_interrupt(&self.ram)?,
        };
        if wanted {
            self.notifier.queue_used(self.index);
        }
        Ok(())
    }

    /// Asks the driver not to kick while the device is at the queue anyway.
    ///
    /// # Errors
    /// The ring's memory cannot be written.
    pub fn disable_kicks(&mut self) -> Result<(), RingError> {
        match &mut self.ring {
            Ring::Split(ring) => ring.disable_kicks(&self.ram),
            Ring::Packed(ring) => ring.disable_kicks(&self.ram),
        }
    }

    /// Asks the driver to kick. True: chains were made available meanwhile, for which there may have been no kick.
    ///
    /// # Errors
    /// The ring's memory cannot be accessed.
    pub fn enable_kicks(&mut self) -> Result<bool, RingError> {
        match &mut self.ring {
            Ring::Split(ring) => ring.enable_kicks(&self.ram),
            Ring::Packed(ring) => ring.enable_kicks(&self.ram),
        }
    }

    /// Has each available chain answered by `answer`, which gives the bytes it wrote, and interrupts the driver in the
    /// end. For devices that answer at once. A driver that adds chains without end is served in portions, between which
    /// the caller can look at other things: the kick eventfd is signalled then.
    ///
    /// # Errors
    /// The driver broke the ring, or `answer` found a request that cannot be answered.
    pub fn serve(&mut self, answer: impl FnMut(&Chain) -> Result<u32, RingError>) -> Result<(), RingError> {
        self.serve_some(self.addresses.size, answer)
    }

    /// The same with portions of `most` chains, for answers that take long.
    ///
    /// # Errors
    /// As for [`Queue::serve`].
    pub fn serve_some(
        &mut self,
        most: u16,
        mut answer: impl FnMut(&Chain) -> Result<u32, RingError>,
    ) -> Result<(), RingError> {
        self.disable_kicks()?;
        for _ in 0..most {
            let Some(chain) = self.pop()? else {
                if self.enable_kicks()? {
                    self.disable_kicks()?;
                    continue;
                }
                return self.notify();
            };
            let written = answer(&chain)?;
            self.complete(&chain, written)?;
        }
        self.enable_kicks()?;
        self.come_back();
        self.notify()
    }

    /// Signals the queue's own kick: there is more to do.
    pub fn come_back(&self) {
        // Only a full counter refuses, and then it is signalled already.
        let _ = self.kick.write(1);
    }

    /// What the thread that serves the queue waits for. Each kick is an event of its own (edge-triggered): its eventfd need not be read,
    /// which would be a system call for each.
    pub fn kicks(&self, data: u32) -> Events {
        Events::with_data(&self.kick, data, EventSet::IN | EventSet::EDGE_TRIGGERED)
    }
}

#[cfg(test)]
#[path = "queue_test.rs"]
mod tests;
