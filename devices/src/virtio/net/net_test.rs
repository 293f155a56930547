use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use virtio_bindings::virtio_config::VIRTIO_F_RING_RESET;
use virtio_bindings::virtio_net::*;

use super::*;
use crate::rate::Rate;
use crate::tap::{HEADER, Offloads, TapQueue};
use crate::virtio::testing::{BUFFERS, DriverRing, Guest};

/// A cable whose other end is in this test, and what it was told.
struct Cable {
    queues: Vec<TapQueue>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Link for Cable {
    fn name(&self) -> &str {
        "cable0"
    }
    fn queues(&self) -> &[TapQueue] {
        &self.queues
    }
    fn mtu(&self) -> u16 {
        1500
    }
    fn has_uso(&self) -> bool {
        true
    }
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        let Offloads { checksum, tso4, uso, .. } = offloads;
        self.told.lock().unwrap().push(format!("checksum {checksum}, tso4 {tso4}, uso {uso}"));
        Ok(())
    }
    fn use_queues(&self, count: usize) -> io::Result<()> {
        self.told.lock().unwrap().push(format!("{count} queues"));
        Ok(())
    }
}

struct Setup {
    guest: Guest,
    others: Vec<UnixDatagram>,
    told: Arc<Mutex<Vec<String>>>,
    packed: bool,
}

const MAC: MacAddress = MacAddress([2, 1, 2, 3, 4, 5]);

fn setup(pairs: usize) -> Setup {
    setup_with(pairs, false)
}

fn setup_with(pairs: usize, packed: bool) -> Setup {
    setup_limited(pairs, packed, NetLimits::default())
}

fn setup_limited(pairs: usize, packed: bool, limits: NetLimits) -> Setup {
    let (ours, others): (Vec<_>, Vec<_>) = (0..pairs).map(|_| UnixDatagram::pair().unwrap()).unzip();
    others.iter().for_each(|other| other.set_read_timeout(Some(Duration::from_secs(60))).unwrap());
    let told = Arc::<Mutex<Vec<String>>>::default();
    let queues = ours.into_iter().map(|it| TapQueue::socket(it).unwrap()).collect();
    let net =
        Net::new(Box::new(Cable { queues, told: told.clone() }), MAC, true, ServedBy::Us { packed, limits });
    Setup { guest: Guest::new(Arc::new(net)), others, told, packed }
}

impl Setup {
    /// The rings of a started driver: receive and transmit queues in turn, then the control queue.
    fn start(&self, features: u64, size: u16) -> Vec<DriverRing> {
        let count = self.others.len() as u16 * 2 + 1;
        let rings: Vec<DriverRing> =
            (0..count).map(|index| DriverRing::new(&self.guest.ram, index, size, self.packed)).collect();
        let features = rings[0].features() | features;
        self.guest.start(features, &rings.iter().collect::<Vec<_>>());
        rings
    }

    fn take_told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn bit(feature: u32) -> u64 {
    1 << feature
}

/// A header and so many bytes that tell frames apart.
fn frame(bytes: usize, seed: u8) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend((0..bytes).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)));
    frame
}

fn read(ring: &DriverRing, at: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    vm_memory::Bytes::read_slice(ring.ram.guest_memory(), &mut data, vm_memory::GuestAddress(at)).unwrap();
    data
}

fn write(ring: &DriverRing, at: u64, data: &[u8]) {
    vm_memory::Bytes::write_slice(ring.ram.guest_memory(), data, vm_memory::GuestAddress(at)).unwrap();
}

#[test]
fn a_driver_finds_address_pairs_and_mtu() {
    let setup = setup(2);
    assert_eq!(setup.guest.read(0x2000), [2, 1, 2, 3, 4, 5, 1, 0, 2, 0, 0xdc, 5, 0, 0, 0, 0]);
    let offered = setup.guest.features();
    assert!(offered & bit(VIRTIO_NET_F_MQ) != 0 && offered & bit(VIRTIO_NET_F_HOST_USO) != 0);
    let plain = features::offered(1, false, true);
    assert_eq!(plain & (bit(VIRTIO_NET_F_MQ) | bit(VIRTIO_NET_F_CSUM) | features::settable()), 0);
}

#[test]
fn frames_go_out_as_the_driver_wrote_them() {
    let setup = setup(1);
    let mut rings = setup.start(0, 8);
    for round in 0..20_u8 {
        let sent = frame(1000 + usize::from(round), round);
        write(&rings[1], BUFFERS, &sent);
        let rest = sent.len() as u32 - HEADER as u32;
        let id = rings[1].add(&[(BUFFERS, HEADER as u32), (BUFFERS + HEADER as u64, rest)], &[]);
        setup.guest.kick(1);
        assert_eq!(setup.guest.wait_for_used(1, &mut rings[1]), (id, 0));
        let mut got = vec![0; 4096];
        let bytes = setup.others[0].recv(&mut got).unwrap();
        assert_eq!(got[..bytes], sent);
    }
}

#[test]
fn a_driver_that_kicks_only_when_asked_is_served_both_ways() {
    for packed in [false, true] {
        let setup = setup_with(1, packed);
        let mut rings = setup.start(0, 64);
        let sent = frame(100, 7);
        write(&rings[1], BUFFERS, &sent);
        // More at once than the cable takes, and fewer.
        for at_once in [20, 1, 1, 5, 20].repeat(20) {
            rings[0].add(&[], &[(BUFFERS + 0x1000, 0x600)]);
            for _ in 0..at_once {
                rings[1].add(&[(BUFFERS, sent.len() as u32)], &[]);
            }
            for index in [0, 1] {
                if rings[usize::from(index)].wants_kick() {
                    setup.guest.kick(index);
                }
            }
            for _ in 0..at_once {
                let mut got = vec![0; 4096];
                let bytes = setup.others[0].recv(&mut got).unwrap();
                assert_eq!(got[..bytes], sent);
                setup.guest.wait_for_used(1, &mut rings[1]);
            }
            setup.others[0].send(&sent).unwrap();
            setup.guest.wait_for_used(0, &mut rings[0]);
        }
    }
}

#[test]
fn a_frame_fills_one_buffer_or_several() {
    for (packed, mergeable) in [(false, false), (false, true), (true, false), (true, true)] {
        let setup = setup_with(1, packed);
        let mut rings = setup.start(u64::from(mergeable) << VIRTIO_NET_F_MRG_RXBUF, 16);
        for (round, bytes) in [60, 1500, 4000].into_iter().enumerate() {
            let sent = frame(bytes, round as u8);
            let buffers: Vec<(u64, u32)> = match mergeable {
                false => vec![(BUFFERS, 0x2000)],
                true => (0..4).map(|at| (BUFFERS + at * 0x1000, 0x600)).collect(),
            };
            let ids: Vec<u16> = buffers.iter().map(|buffer| rings[0].add(&[], &[*buffer])).collect();
            setup.guest.kick(0);
            setup.others[0].send(&sent).unwrap();
            let mut got = Vec::new();
            let first = setup.guest.wait_for_used(0, &mut rings[0]);
            let used =
                std::iter::once(first).chain(std::iter::from_fn(|| rings[0].used())).collect::<Vec<_>>();
            for ((id, written), (expected, (at, _))) in used.iter().zip(ids.iter().zip(&buffers)) {
                assert_eq!(id, expected);
                got.extend(read(&rings[1], *at, *written as usize));
            }
            let filled = sent.len().div_ceil(if mergeable { 0x600 } else { 0x2000 });
            assert_eq!(used.len(), filled, "mergeable {mergeable}, {bytes} bytes");
            let mut expected = sent.clone();
            expected[10..12].copy_from_slice(&(filled as u16).to_le_bytes());
            assert!(got == expected, "mergeable {mergeable}, {bytes} bytes");
            // The rest is used by small frames.
            for _ in filled..buffers.len() {
                setup.others[0].send(&frame(1, 0)).unwrap();
                assert_eq!(setup.guest.wait_for_used(0, &mut rings[0]).1, 13);
            }
        }
    }
}

#[test]
fn a_frame_waits_for_the_buffers_it_needs() {
    let setup = setup(1);
    let features = bit(VIRTIO_NET_F_MRG_RXBUF) | bit(VIRTIO_NET_F_GUEST_CSUM) | bit(VIRTIO_NET_F_GUEST_TSO4);
    let mut rings = setup.start(features, 128);
    let sent = frame(40_000, 7);
    setup.others[0].send(&sent).unwrap();
    let count = sent.len().div_ceil(0x400);
    let buffers: Vec<(u64, u32)> = (0..count as u64).map(|at| (BUFFERS + at * 0x1000, 0x400)).collect();
    for buffer in &buffers {
        assert_eq!(rings[0].used(), None, "a part of a frame is given");
        rings[0].add(&[], &[*buffer]);
        setup.guest.kick(0);
    }
    let mut got = Vec::new();
    for (at, _) in buffers {
        let (_, written) = setup.guest.wait_for_used(0, &mut rings[0]);
        got.extend(read(&rings[0], at, written as usize));
    }
    assert_eq!(got[10..12], (count as u16).to_le_bytes());
    assert!(got[HEADER..] == sent[HEADER..]);
}

#[test]
fn a_large_frame_after_many_usual_ones_arrives_whole() {
    let setup = setup(1);
    let features = bit(VIRTIO_NET_F_MRG_RXBUF) | bit(VIRTIO_NET_F_GUEST_CSUM) | bit(VIRTIO_NET_F_GUEST_TSO4);
    let mut rings = setup.start(features, 128);
    let large = frame(40_000, 7);
    let mut buffers = (0..20 + large.len().div_ceil(0x400) as u64 + 1).map(|at| BUFFERS + at * 0x400);
    for at in buffers.clone() {
        rings[0].add(&[], &[(at, 0x400)]);
    }
    setup.guest.kick(0);
    let mut next = |bytes: usize| -> Vec<u8> {
        (0..bytes.div_ceil(0x400))
            .flat_map(|_| {
                let (_, written) = setup.guest.wait_for_used(0, &mut rings[0]);
                read(&rings[1], buffers.next().unwrap(), written as usize)
            })
            .collect()
    };
    let usual: Vec<Vec<u8>> = (0..20).map(|seed| frame(60, seed)).collect();
    for sent in usual.iter().chain([&large, &usual[0]]) {
        setup.others[0].send(sent).unwrap();
        let got = next(sent.len());
        assert_eq!(got[10..12], (sent.len().div_ceil(0x400) as u16).to_le_bytes());
        assert!(got[HEADER..] == sent[HEADER..], "{} bytes", sent.len());
    }
}

#[test]
fn a_frame_larger_than_all_buffers_is_dropped_and_the_next_one_comes() {
    let setup = setup(1);
    for mergeable in [0, 1] {
        let mut rings = setup.start(mergeable << VIRTIO_NET_F_MRG_RXBUF, 4);
        setup.others[0].send(&frame(5000, 1)).unwrap();
        setup.others[0].send(&frame(100, 2)).unwrap();
        for at in 0..4 {
            rings[0].add(&[], &[(BUFFERS + at * 0x1000, 0x400)]);
        }
        setup.guest.kick(0);
        assert_eq!(setup.guest.wait_for_used(0, &mut rings[0]).1, 112);
        assert_eq!(read(&rings[0], BUFFERS + HEADER as u64, 100), frame(100, 2)[HEADER..]);
    }
}

#[test]
fn a_full_cable_makes_the_driver_wait() {
    let setup = setup(1);
    let mut rings = setup.start(0, 256);
    let sent = frame(1400, 3);
    write(&rings[1], BUFFERS, &sent);
    for _ in 0..256 {
        rings[1].add(&[(BUFFERS, sent.len() as u32)], &[]);
    }
    setup.guest.kick(1);
    // A socket takes few datagrams before somebody reads them.
    for _ in 0..256 {
        let mut got = vec![0; 4096];
        let bytes = setup.others[0].recv(&mut got).unwrap();
        assert!(got[..bytes] == sent);
    }
    for _ in 0..256 {
        setup.guest.wait_for_used(1, &mut rings[1]);
    }
}

#[test]
fn a_reset_in_the_middle_leaves_nothing_behind() {
    let setup = setup(1);
    for round in 0..20_u8 {
        let mut rings = setup.start(bit(VIRTIO_NET_F_MRG_RXBUF), 8);
        setup.others[0].send(&frame(3000, 100)).unwrap();
        rings[0].add(&[], &[(BUFFERS, 0x600)]);
        setup.guest.kick(0);
        // The frame is half there, or not yet.
        let mut rings = setup.start(0, 8);
        rings[0].add(&[], &[(BUFFERS, 0x2000)]);
        setup.others[0].send(&frame(200, round)).unwrap();
        setup.guest.kick(0);
        let (_, mut written) = setup.guest.wait_for_used(0, &mut rings[0]);
        if written == 3012 {
            rings[0].add(&[], &[(BUFFERS, 0x2000)]);
            setup.guest.kick(0);
            (_, written) = setup.guest.wait_for_used(0, &mut rings[0]);
        }
        assert_eq!(written, 212);
        assert_eq!(read(&rings[0], BUFFERS + HEADER as u64, 200), frame(200, round)[HEADER..]);
    }
}

#[test]
fn one_queue_of_a_pair_is_reset_while_the_other_serves() {
    for (packed, index) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let setup = setup_with(1, packed);
        let mut rings = setup.start(bit(VIRTIO_F_RING_RESET), 8);
        let (sent, given) = (frame(900, 1), frame(800, 2));
        write(&rings[1], BUFFERS, &sent);
        for round in 0..20_u64 {
            let out = [(BUFFERS, sent.len() as u32)];
            let room = [(BUFFERS + 0x1000 * (round + 1), 0x1000)];
            rings[1].add(&out, &[]);
            rings[0].add(&[], &room);
            setup.guest.kick(0);
            setup.guest.kick(1);
            if round % 2 == 0 {
                setup.guest.reset_queue(index);
                rings[usize::from(index)] = DriverRing::new(&setup.guest.ram, index, 8, packed);
                setup.guest.enable(index, &rings[usize::from(index)].at);
                match index {
                    0 => rings[0].add(&[], &room),
                    _ => rings[1].add(&out, &[]),
                };
                setup.guest.kick(index);
            }
            setup.others[0].send(&given).unwrap();
            assert_eq!(setup.guest.wait_for_used(0, &mut rings[0]).1, given.len() as u32);
            assert!(read(&rings[0], room[0].0, given.len())[HEADER..] == given[HEADER..]);
            let mut got = vec![0; 4096];
            let bytes = setup.others[0].recv(&mut got).unwrap();
            assert!(got[..bytes] == sent);
            setup.guest.wait_for_used(1, &mut rings[1]);
        }
    }
}

#[test]
fn limits_hold_in_each_direction_and_every_frame_passes() {
    let few = Limits { operations: Some(Rate { per_second: 200, burst: 1 }), bytes: None };
    for (limits, queue) in [
        (NetLimits { received: few, ..NetLimits::default() }, 0),
        (NetLimits { sent: few, ..NetLimits::default() }, 1),
    ] {
        let setup = setup_limited(1, false, limits);
        let mut rings = setup.start(0, 32);
        let passing = frame(100, 7);
        write(&rings[1], BUFFERS, &passing);
        let begun = Instant::now();
        let mut got = vec![0; 4096];
        // The other direction has no limit: a frame each way, and only one of them is waited for.
        for _ in 0..21 {
            rings[0].add(&[], &[(BUFFERS + 0x1000, 0x1000)]);
            rings[1].add(&[(BUFFERS, passing.len() as u32)], &[]);
        }
        setup.guest.kick(1);
        for _ in 0..21 {
            setup.others[0].send(&passing).unwrap();
            setup.guest.kick(0);
            setup.guest.wait_for_used(1 - queue, &mut rings[usize::from(1 - queue)]);
            if queue == 0 {
                setup.others[0].recv(&mut got).unwrap();
            }
        }
        for _ in 0..21 {
            setup.guest.wait_for_used(queue, &mut rings[usize::from(queue)]);
        }
        // The first passes, one is the burst, and each further one takes 5 ms.
        assert!(begun.elapsed() >= Duration::from_millis(90), "queue {queue}: {:?}", begun.elapsed());
    }
}

/// Sends a command and gives the answer.
fn command(setup: &Setup, ring: &mut DriverRing, index: u16, bytes: &[u8]) -> u8 {
    write(ring, BUFFERS, bytes);
    ring.put(BUFFERS + 0x100, 0xff_u8);
    ring.add(&[(BUFFERS, bytes.len() as u32)], &[(BUFFERS + 0x100, 1)]);
    setup.guest.kick(index);
    assert_eq!(setup.guest.wait_for_used(index, ring).1, 1);
    ring.get(BUFFERS + 0x100)
}

#[test]
fn a_driver_changes_pairs_offloads_and_address() {
    let setup = setup(2);
    let features = bit(VIRTIO_NET_F_CTRL_VQ)
        | bit(VIRTIO_NET_F_MQ)
        | bit(VIRTIO_NET_F_CTRL_MAC_ADDR)
        | bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)
        | bit(VIRTIO_NET_F_GUEST_CSUM)
        | bit(VIRTIO_NET_F_GUEST_TSO4);
    let mut rings = setup.start(features, 8);
    assert_eq!(setup.take_told(), ["checksum true, tso4 true, uso false", "1 queues"]);
    let mut ask = |bytes: &[u8]| command(&setup, &mut rings[4], 4, bytes);
    assert_eq!(ask(&[4, 0, 2, 0]), 0);
    assert_eq!(ask(&[4, 0, 3, 0]), 1, "more pairs than there are");
    assert_eq!(ask(&[4, 0, 0, 0]), 1, "no pairs");
    assert_eq!(ask(&[4, 0]), 1, "how many pairs");
    assert_eq!(ask(&[5, 0, 0b10, 0, 0, 0, 0, 0, 0, 0]), 0);
    assert_eq!(ask(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]), 1, "an offload that was not accepted");
    assert_eq!(ask(&[1, 1, 2, 9, 9, 9, 9, 9]), 0);
    assert_eq!(ask(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0, "a table of addresses");
    assert_eq!(ask(&[0, 0, 1]), 0, "promiscuous");
    assert_eq!(ask(&[2, 0, 1, 0]), 1, "VLANs");
    assert_eq!(ask(&[0xff, 0xff, 1]), 1, "nonsense");
    assert_eq!(setup.guest.read(0x2000), [2, 9, 9, 9, 9, 9]);
    assert_eq!(setup.take_told(), ["2 queues", "checksum true, tso4 false, uso false"]);
    // The next driver begins anew. It knows of no pairs, and has its control queue after the first.
    let mut rings = setup.start(bit(VIRTIO_NET_F_CTRL_VQ), 8);
    assert_eq!(setup.guest.read(0x2000), MAC.0);
    assert_eq!(command(&setup, &mut rings[2], 2, &[4, 0, 2, 0]), 1, "pairs that were not accepted");
    assert_eq!(setup.take_told(), ["checksum false, tso4 false, uso false", "1 queues"]);
}

#[test]
fn frames_and_buffers_too_small_for_a_header_stop_the_card() {
    for (queue, readable) in [(0, false), (1, true)] {
        let setup = setup(1);
        let mut rings = setup.start(0, 8);
        let buffer = [(BUFFERS, 11)];
        let index = usize::from(queue == 1);
        if readable {
            rings[index].add(&buffer, &[])
        } else {
            rings[index].add(&[], &buffer)
        };
        setup.guest.kick(queue);
        setup.guest.wait_for_vector(0);
        assert_eq!(setup.guest.status() & 0x40, 0x40, "DEVICE_NEEDS_RESET");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_a_driver_sends_the_next_frame_passes(
        chains in prop::collection::vec((0_u64..0x10_0000, 12_u32..0x2_0000, any::<bool>()), 1..8)
    ) {
        let setup = setup(1);
        let mut rings = setup.start(0, 16);
        for (at, bytes, twice) in &chains {
            let buffer = (BUFFERS + at, *bytes);
            let buffers = if *twice { vec![buffer, buffer] } else { vec![buffer] };
            rings[1].add(&buffers, &[]);
            setup.guest.kick(1);
            setup.guest.wait_for_used(1, &mut rings[1]);
            setup.others[0].set_nonblocking(true).unwrap();
            while setup.others[0].recv(&mut [0; 4]).is_ok() {}
            setup.others[0].set_nonblocking(false).unwrap();
        }
        let last = frame(64, 9);
        write(&rings[1], BUFFERS, &last);
        rings[1].add(&[(BUFFERS, last.len() as u32)], &[]);
        setup.guest.kick(1);
        let mut got = vec![0; 128];
        let bytes = setup.others[0].recv(&mut got).unwrap();
        prop_assert_eq!(&got[..bytes], &last[..]);
    }
}
