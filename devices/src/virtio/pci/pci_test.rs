use super::*;
use crate::pci::config::COMMAND;
use crate::virtio::rng::Rng;
use crate::virtio::testing::{BAR_AT, BUFFERS, DriverRing, Guest};

fn guest() -> (Guest, DriverRing) {
    let guest = Guest::new(Arc::new(Rng));
    let ring = DriverRing::new(&guest.ram, 0, 8, false);
    (guest, ring)
}

/// Asks for random bytes, and gets them.
fn works(guest: &Guest, ring: &mut DriverRing) {
    let id = ring.add(&[], &[(BUFFERS, 16)]);
    guest.kick(0);
    assert_eq!(guest.wait_for_used(0, ring), (id, 16));
}

#[test]
fn a_guest_finds_the_structures_by_their_capabilities() {
    let (guest, _) = guest();
    let read = |at: u16| {
        let mut data = [0; 4];
        guest.function.config_read(at, &mut data);
        u32::from_le_bytes(data)
    };
    assert_eq!(read(0), 0x1044_1af4);
    assert_eq!(guest.features(), 1 << 32 | crate::virtio::RING_FEATURES);
    let (mut at, mut kinds) = (read(0x34) as u8, Vec::new());
    while at != 0 {
        let header = read(u16::from(at)).to_le_bytes();
        if header[0] == 9 {
            let [kind, bar, ..] = read(u16::from(at) + 3).to_le_bytes();
            kinds.push((kind, bar, header[2], read(u16::from(at) + 8), read(u16::from(at) + 12)));
        }
        at = header[1];
    }
    kinds.sort_unstable();
    let expected = [
        (1, 0, 16, 0, 0x40),
        (2, 0, 20, 0x3000, 0x1000),
        (3, 0, 16, 0x1000, 1),
        (4, 0, 16, 0x2000, 0x1000),
        (5, 0, 20, 0, 0),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn doorbells_hang_while_the_driver_is_ready_and_the_bar_is_mapped() {
    let (guest, mut ring) = guest();
    guest.negotiate(ring.features());
    guest.enable(0, &ring.at);
    assert!(guest.doorbells.hung().is_empty());
    guest.ready();
    assert_eq!(guest.doorbells.hung(), [BAR_AT + 0x3000]);
    works(&guest, &mut ring);
    guest.function.bar_mapped(0, None);
    assert!(guest.doorbells.hung().is_empty());
    guest.function.bar_mapped(0, Some(0x1000_0000));
    assert_eq!(guest.doorbells.hung(), [0x1000_3000]);
    works(&guest, &mut ring);
    guest.write(0x14, &[0]);
    assert!(guest.doorbells.hung().is_empty());
    assert_eq!(guest.status(), 0);
}

#[test]
fn a_reset_of_any_kind_makes_the_device_start_anew() {
    let (guest, _) = guest();
    let express = guest.capability(0x10);
    for round in 0..4 {
        let mut ring = DriverRing::new(&guest.ram, 0, 8, false);
        guest.start(ring.features(), &[&ring]);
        works(&guest, &mut ring);
        match round {
            0 => guest.function.reset_device(),
            1 => guest.write(0x14, &[0]),
            2 => {
                let _ = guest.function.config_write(express + 8, &0x8000_u16.to_le_bytes());
                let mut command = [0xff; 2];
                guest.function.config_read(COMMAND, &mut command);
                assert_eq!(command, [0; 2], "configuration space is as after power-on");
                break;
            }
            _ => unreachable!(),
        }
        assert_eq!(guest.status(), 0);
    }
    assert!(guest.controller.alive().is_empty(), "vectors are given back");
}

#[test]
fn a_queue_alone_is_reset_and_enabled_again() {
    let (guest, mut ring) = guest();
    guest.start(ring.features() | 1 << 40, &[&ring]);
    works(&guest, &mut ring);
    guest.write(0x3a, &1_u16.to_le_bytes());
    assert_eq!(guest.read(0x1c), [0_u8; 2]);
    assert_eq!(guest.read(0x3a), [0_u8; 2]);
    let mut ring = DriverRing::new(&guest.ram, 0, 4, false);
    guest.enable(0, &ring.at);
    works(&guest, &mut ring);
    assert_eq!(guest.status(), 0xf);
}

#[test]
fn a_ring_outside_memory_breaks_the_device_and_nothing_else() {
    let (guest, ring) = guest();
    guest.negotiate(ring.features());
    guest.enable(0, &RingAddresses { device: 1 << 40, ..ring.at });
    guest.ready();
    guest.wait_for_vector(0);
    assert_eq!(guest.status(), 0x4f);
    guest.kick(0);
    let mut ring = DriverRing::new(&guest.ram, 0, 8, false);
    guest.start(ring.features(), &[&ring]);
    works(&guest, &mut ring);
}

#[test]
fn registers_can_be_reached_through_configuration_space() {
    let (guest, _) = guest();
    // The last capability of the list is the window.
    let window = guest.function.places.window;
    let set = |at: u16, value: u32| {
        let _ = guest.function.config_write(window + at, &value.to_le_bytes());
    };
    let data = |length: usize| {
        let mut data = vec![0xee; length];
        guest.function.config_read(window + WINDOW_DATA, &mut data);
        data
    };
    set(WINDOW_OFFSET, 0x12);
    set(WINDOW_LENGTH, 2);
    assert_eq!(data(2), [1, 0], "the number of queues");
    assert_eq!(data(4), [0; 4], "another length than was set");
    set(WINDOW_OFFSET, 0x14);
    set(WINDOW_LENGTH, 1);
    let _ = guest.function.config_write(window + WINDOW_DATA, &[1]);
    assert_eq!(guest.status(), 1);
    set(WINDOW_LENGTH, 3);
    assert_eq!(data(1), [0]);
}
