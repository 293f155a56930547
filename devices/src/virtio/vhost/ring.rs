//! A ring as the vhost crate is told of it, whoever serves it: the kernel or a daemon.

use vhost::VringConfigData;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::virtio::{Queue, RingError};

/// Where the ring of `queue` is, guest physical.
///
/// # Errors
/// Not each part of it is in one piece of memory.
pub(in crate::virtio) fn config(queue: &Queue) -> Result<VringConfigData, RingError> {
    let at = *queue.addresses();
    let (size, memory) = (usize::from(at.size), queue.ram().guest_memory());
    let lies = |address: u64, bytes: usize| {
        memory.get_slice(GuestAddress(address), bytes).is_ok_and(|slice| slice.len() == bytes)
    };
    let parts = [(at.descriptors, size * 16), (at.driver, size * 2 + 6), (at.device, size * 8 + 6)];
    if !parts.iter().all(|(address, bytes)| lies(*address, *bytes)) {
        let (descriptors, driver, device) = (at.descriptors, at.driver, at.device);
        return Err(RingError::Ring { size: at.size, descriptors, driver, device });
    }
    Ok(VringConfigData {
        queue_max_size: at.size,
        queue_size: at.size,
        flags: 0,
        desc_table_addr: at.descriptors,
        used_ring_addr: at.device,
        avail_ring_addr: at.driver,
        log_addr: None,
    })
}
