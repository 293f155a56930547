use std::io::{Read, Write};

use proptest::prelude::*;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::eventfd::is_signalled;
use crate::pci::VectorBackend;
use crate::virtio::interrupts::Interrupts;
use crate::virtio::testing::{BUFFERS, DriverRing, ram};

/// A queue, the driver's side of it, and what its vector signals.
fn queue(packed: bool, size: u16, features: u64) -> (Queue, DriverRing, EventFd) {
    let ram = ram();
    let ring = DriverRing::new(&ram, 0, size, packed);
    let interrupts = Interrupts::new("test".to_owned(), 1);
    interrupts.set_queue_vector(0, 1);
    let vector = EventFd::new(EFD_NONBLOCK).unwrap();
    interrupts.connect(&[(1, &vector)]).unwrap();
    let kick = EventFd::new(EFD_NONBLOCK).unwrap();
    let features = ring.features() | features;
    let queue = Queue::new(0, ring.at, features, ram, kick, Notifier::new(&interrupts)).unwrap();
    (queue, ring, vector)
}

/// Upper-cases what it reads.
fn shout(chain: &Chain) -> Result<u32, RingError> {
    let mut text = Vec::new();
    chain.reader().read_to_end(&mut text).map_err(RingError::Access)?;
    let mut writer = chain.writer();
    writer.write_all(&text.to_ascii_uppercase()).map_err(RingError::Access)?;
    Ok(writer.written())
}

#[test]
fn chains_are_answered_over_many_laps_of_either_ring() {
    for (packed, event_idx) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let (mut queue, mut ring, vector) = queue(packed, 8, event_idx << VIRTIO_RING_F_EVENT_IDX);
        for round in 0..50_u64 {
            let text = format!("round {round}");
            let ram = queue.ram().clone();
            vm_memory::Bytes::write_slice(
                ram.guest_memory(),
                text.as_bytes(),
                vm_memory::GuestAddress(BUFFERS),
            )
            .unwrap();
            let length = text.len() as u32;
            let split = [(BUFFERS, 2), (BUFFERS + 2, length - 2)];
            let id = ring.add(&split, &[(BUFFERS + 0x1000, 100)]);
            queue.serve(shout).unwrap();
            assert_eq!(ring.used(), Some((id, length)), "packed {packed}, round {round}");
            let answer: [u8; 7] = ring.get(BUFFERS + 0x1000);
            assert_eq!(answer[..5], *b"ROUND");
            if event_idx == 0 {
                assert!(is_signalled(&vector), "packed {packed}, round {round}: no interrupt");
                vector.read().unwrap();
            }
        }
        assert_eq!(ring.used(), None);
        assert!(queue.pop().unwrap().is_none());
    }
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    for packed in [false, true] {
        let (mut queue, mut ring, vector) = queue(packed, 8, 0);
        // VIRTQ_AVAIL_F_NO_INTERRUPT, or RING_EVENT_FLAGS_DISABLE.
        ring.put(ring.at.driver + if packed { 2 } else { 0 }, 1_u16);
        ring.add(&[], &[(BUFFERS, 8)]);
        queue.serve(|_| Ok(8)).unwrap();
        assert!(ring.used().is_some());
        assert!(!is_signalled(&vector), "packed {packed}");
    }
}

#[test]
fn a_driver_that_waits_for_an_entry_is_interrupted_at_that_one() {
    for packed in [false, true] {
        let (mut queue, mut ring, vector) = queue(packed, 8, 1 << VIRTIO_RING_F_EVENT_IDX);
        // used_event, or the offset with the first lap's wrap counter: the third entry.
        if packed {
            ring.put(ring.at.driver, 2_u16 | 0x8000);
            ring.put(ring.at.driver + 2, 2_u16);
        } else {
            ring.put(ring.at.driver + 4 + 8 * 2, 2_u16);
        }
        for expected in [false, false, true, false] {
            ring.add(&[], &[(BUFFERS, 8)]);
            queue.serve(|_| Ok(8)).unwrap();
            assert_eq!(is_signalled(&vector), expected, "packed {packed}");
            let _ = vector.read();
        }
    }
}

#[test]
fn chains_that_belong_together_are_completed_together() {
    for (packed, event_idx) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let (mut queue, mut ring, vector) = queue(packed, 8, event_idx << VIRTIO_RING_F_EVENT_IDX);
        for round in 0..20_u32 {
            let ids: Vec<u16> = (0..3).map(|_| ring.add(&[], &[(BUFFERS, 8)])).collect();
            if event_idx == 1 && !packed {
                // The driver waits for the second of them.
                ring.put(ring.at.driver + 4 + 8 * 2, (round * 3 + 1) as u16);
            }
            let chains: Vec<(Chain, u32)> =
                (1..4).map(|written| (queue.pop().unwrap().unwrap(), written)).collect();
            queue.complete_all(&chains).unwrap();
            let used: Vec<(u16, u32)> = std::iter::from_fn(|| ring.used()).collect();
            assert_eq!(used, [(ids[0], 1), (ids[1], 2), (ids[2], 3)], "packed {packed}, round {round}");
            queue.notify().unwrap();
            assert!(is_signalled(&vector), "packed {packed}, event_idx {event_idx}, round {round}");
            vector.read().unwrap();
            queue.notify().unwrap();
            assert!(!is_signalled(&vector), "nothing was completed since");
        }
    }
}

#[test]
fn kicks_are_asked_for_when_there_is_nothing_to_do() {
    for packed in [false, true] {
        let (mut queue, mut ring, _) = queue(packed, 8, 0);
        let flags = |ring: &DriverRing| ring.get::<u16>(ring.at.device + if packed { 2 } else { 0 });
        queue.disable_kicks().unwrap();
        assert_eq!(flags(&ring), 1);
        assert!(!queue.enable_kicks().unwrap());
        assert_eq!(flags(&ring), 0);
        ring.add(&[(BUFFERS, 1)], &[]);
        assert!(queue.enable_kicks().unwrap(), "a chain that came before kicks were on is not noticed");
    }
}

#[test]
fn a_driver_that_never_stops_is_served_in_portions() {
    let (mut queue, mut ring, _) = queue(false, 4, 0);
    ring.add(&[(BUFFERS, 1)], &[]);
    let mut served = 0;
    queue
        .serve(|_| {
            served += 1;
            ring.add(&[(BUFFERS, 1)], &[]);
            Ok(0)
        })
        .unwrap();
    assert_eq!(served, 4);
    assert!(is_signalled(queue.kick()), "it would not come back");
}

#[test]
fn rings_that_are_not_in_memory_are_refused() {
    let good = RingAddresses { size: 8, descriptors: 0x10000, driver: 0x20000, device: 0x30000 };
    let bad = [
        RingAddresses { size: 0, ..good },
        RingAddresses { descriptors: 0x10001, ..good },
        RingAddresses { descriptors: (16 << 20) - 16, ..good },
        RingAddresses { driver: 1 << 40, ..good },
        RingAddresses { driver: u64::MAX - 1, ..good },
        RingAddresses { device: (16 << 20) - 2, ..good },
        RingAddresses { device: 0x30002, ..good },
    ];
    for packed in [0, 1] {
        let features = packed << VIRTIO_F_RING_PACKED;
        let make = |at: RingAddresses| {
            let interrupts = Interrupts::new("test".to_owned(), 1);
            let kick = EventFd::new(EFD_NONBLOCK).unwrap();
            Queue::new(0, at, features, ram(), kick, Notifier::new(&interrupts)).map(drop)
        };
        make(good).unwrap();
        for at in bad {
            assert!(make(at).is_err(), "packed {packed}: {at:?}");
        }
    }
}

#[test]
fn chains_that_make_no_sense_break_the_ring() {
    let broken = |set_up: &dyn Fn(&mut DriverRing)| {
        let (mut queue, mut ring, _) = queue(false, 8, 0);
        set_up(&mut ring);
        queue.pop().unwrap_err()
    };
    let available = |ring: &DriverRing| ring.publish(1);
    let looping = broken(&|ring| {
        ring.descriptor(0, BUFFERS, 1, 1, 1);
        ring.descriptor(1, BUFFERS, 1, 1, 0);
        available(ring);
    });
    assert!(matches!(looping, RingError::Broken), "{looping:?}");
    let outside = broken(&|ring| {
        ring.descriptor(0, BUFFERS, 1, 1, 77);
        available(ring);
    });
    assert!(matches!(outside, RingError::Broken), "{outside:?}");
    let head = broken(&|ring| {
        ring.put(ring.at.driver + 4, 9_u16);
        available(ring);
    });
    assert!(matches!(head, RingError::Broken), "{head:?}");
    let order = broken(&|ring| {
        ring.descriptor(0, BUFFERS, 1, 3, 1);
        ring.descriptor(1, BUFFERS, 1, 0, 0);
        available(ring);
    });
    assert!(matches!(order, RingError::Order), "{order:?}");
    for (address, length) in [(16 << 20, 1), ((16 << 20) - 1, 2), (u64::MAX, 1), (BUFFERS, u32::MAX)] {
        let buffer = broken(&|ring| {
            ring.descriptor(0, address, length, 0, 0);
            available(ring);
        });
        assert!(matches!(buffer, RingError::Buffer { .. }), "{buffer:?}");
    }
    let overfull = broken(&|ring| ring.publish(9));
    assert!(matches!(overfull, RingError::Overfull), "{overfull:?}");
}

/// Bytes of an indirect table at `BUFFERS + 0x2000`, of so many one-byte readable buffers. In a split ring they are chained.
fn table(ring: &DriverRing, entries: u16, chained: bool) -> u32 {
    for entry in 0..entries {
        let at = BUFFERS + 0x2000 + u64::from(entry) * 16;
        ring.put(at, BUFFERS + u64::from(entry));
        ring.put(at + 8, 1_u32);
        ring.put(at + 12, u16::from(chained && entry + 1 != entries));
        ring.put(at + 14, if chained { entry + 1 } else { 0 });
    }
    u32::from(entries) * 16
}

#[test]
fn indirect_tables_are_followed_once() {
    for packed in [false, true] {
        let (mut queue, mut ring, _) = queue(packed, 4, 0);
        let bytes = table(&ring, 100, !packed);
        ring.add(&[(BUFFERS + 0x2000, bytes)], &[]);
        let flags = |flags: u16| ring.put(ring.at.descriptors + if packed { 14 } else { 12 }, flags);
        flags(4 | if packed { 0x80 } else { 0 });
        let chain = queue.pop().unwrap().unwrap();
        assert_eq!((chain.readable().len(), chain.readable_bytes()), (100, 100), "packed {packed}");
    }
    for packed in [false, true] {
        for bytes in [0, 8, 24, 16 * 2000] {
            let (mut queue, mut ring, _) = queue(packed, 4, 0);
            table(&ring, 2000, !packed);
            ring.add(&[(BUFFERS + 0x2000, bytes)], &[]);
            ring.put(
                ring.at.descriptors + if packed { 14 } else { 12 },
                4 | if packed { 0x80_u16 } else { 0 },
            );
            assert!(queue.pop().is_err(), "packed {packed}, table of {bytes} bytes");
        }
    }
}

proptest! {
    /// Whatever is in a ring's memory, the device neither panics nor goes on for ever, and touches nothing outside RAM.
    #[test]
    fn garbage_in_a_ring_does_no_harm(
        packed: bool, event_idx: bool, seed in proptest::collection::vec(any::<u8>(), 512), index: u16,
    ) {
        let (mut queue, ring, _) = queue(packed, 16, u64::from(event_idx) << VIRTIO_RING_F_EVENT_IDX);
        for base in [ring.at.descriptors, ring.at.driver, ring.at.device] {
            vm_memory::Bytes::write_slice(ring.ram.guest_memory(), &seed, vm_memory::GuestAddress(base)).unwrap();
        }
        if !packed {
            ring.publish(index % 20);
        }
        for _ in 0..40 {
            match queue.pop() {
                Ok(Some(chain)) => {
                    let _ = shout(&chain);
                    let _ = queue.complete(&chain, u32::MAX);
                    let _ = queue.notify();
                }
                Ok(None) => { let _ = queue.enable_kicks(); }
                Err(_) => break,
            }
        }
    }
}
