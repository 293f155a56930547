use std::sync::Arc;

use super::*;
use crate::virtio::testing::{BUFFERS, DriverRing, Guest};

#[test]
fn buffers_are_filled_with_different_bytes() {
    for packed in [false, true] {
        let guest = Guest::new(Arc::new(PackedRng));
        let mut ring = DriverRing::new(&guest.ram, 0, 8, packed);
        guest.start(ring.features(), &[&ring]);
        let mut seen = Vec::new();
        for (asked, given) in [(32, 32), (1, 1), (10_000, 4096)] {
            let id = ring.add(&[], &[(BUFFERS, asked)]);
            guest.kick(0);
            assert_eq!(guest.wait_for_used(0, &mut ring), (id, given));
            seen.push(ring.get::<[u8; 32]>(BUFFERS));
        }
        // One byte alone is often enough what it was.
        assert!(seen[0][1..] == seen[1][1..], "more than a byte was given: {seen:?}");
        assert!(seen[0] != seen[2] && seen[0] != [0; 32], "{seen:?}");
    }
}

#[test]
fn a_request_without_room_stops_the_device() {
    let guest = Guest::new(Arc::new(Rng));
    let mut ring = DriverRing::new(&guest.ram, 0, 8, false);
    guest.start(ring.features(), &[&ring]);
    ring.add(&[(BUFFERS, 8)], &[]);
    guest.kick(0);
    guest.wait_for_vector(0);
    assert_eq!(guest.status() & 0x40, 0x40, "DEVICE_NEEDS_RESET");
    // After a reset it works again.
    let mut ring = DriverRing::new(&guest.ram, 0, 8, false);
    guest.start(ring.features(), &[&ring]);
    let id = ring.add(&[], &[(BUFFERS, 8)]);
    guest.kick(0);
    assert_eq!(guest.wait_for_used(0, &mut ring), (id, 8));
}

/// The same with packed rings, which it does not offer by itself.
struct PackedRng;

impl VirtioDevice for PackedRng {
    fn kind(&self) -> DeviceType {
        Rng.kind()
    }
    fn name(&self) -> String {
        Rng.name()
    }
    fn features(&self) -> u64 {
        Rng.features() | 1 << virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED
    }
    fn queue_sizes(&self) -> Vec<u16> {
        Rng.queue_sizes()
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        Rng.read_config(offset, data);
    }
    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        Rng.activate(driver)
    }
}
