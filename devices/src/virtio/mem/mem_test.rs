use memory::Layout;
use memory::layout::AddressLimits;

use super::*;
use crate::virtio::testing::{BUFFERS, DriverRing, Guest};

const BLOCKS: u64 = 64;
const ANSWER: u64 = BUFFERS + 64;

/// Plugs what it is told to, unless it is out of memory.
struct Willing(Arc<GuestRam>, bool);

impl Owner for Willing {
    fn plug(&self, range: GuestRange) -> bool {
        self.0.pluggable().filter(|_| self.1).map(|memory| memory.note(range, true)).is_some()
    }

    fn unplug(&self, range: GuestRange) {
        self.0.pluggable().unwrap().note(range, false);
    }
}

struct Bench {
    device: Arc<Mem>,
    guest: Guest,
    ring: DriverRing,
    start: u64,
}

impl Bench {
    fn new(requested: u64, willing: bool) -> Self {
        let layout = Layout::with_room(16 << 20, BLOCKS * BLOCK, &AddressLimits::cpu_only(40)).unwrap();
        let ram = Arc::new(GuestRam::new(&layout).unwrap());
        let owner = Box::new(Willing(ram.clone(), willing));
        let device = Arc::new(Mem::new(ram, owner, requested * BLOCK));
        let guest = Guest::new(device.clone());
        let ring = DriverRing::new(&guest.ram, 0, 8, false);
        guest.start(ring.features() | INACCESSIBLE, &[&ring]);
        Self { device, guest, ring, start: layout.pluggable.unwrap().start }
    }

    /// Asks for something about blocks from `address` on; gives the answer and the state in it.
    fn ask_at(&mut self, kind: u16, address: u64, blocks: u16) -> (u16, u16) {
        self.ring.put(BUFFERS, u64::from(kind));
        self.ring.put(BUFFERS + 8, address);
        self.ring.put(BUFFERS + 16, u64::from(blocks));
        let id = self.ring.add(&[(BUFFERS, REQUEST as u32)], &[(ANSWER, 10)]);
        self.guest.kick(0);
        assert_eq!(self.guest.wait_for_used(0, &mut self.ring), (id, 10));
        (self.ring.get(ANSWER), self.ring.get(ANSWER + 8))
    }

    fn ask(&mut self, kind: u16, first: u64, blocks: u16) -> (u16, u16) {
        self.ask_at(kind, self.start + first * BLOCK, blocks)
    }
}

#[test]
fn a_guest_has_what_it_was_told_to_and_no_more() {
    let mut bench = Bench::new(4, true);
    assert_eq!(bench.ask(0, 0, 3), (0, 0));
    assert_eq!(bench.device.state().plugged, 3 * BLOCK);
    assert_eq!(bench.ask(0, 3, 2), (1, 0), "more than it should have");
    bench.device.resize(5 * BLOCK);
    assert_eq!(bench.ask(0, 3, 2), (0, 0));
    assert_eq!((bench.ask(3, 0, 5), bench.ask(3, 5, 2), bench.ask(3, 4, 2)), ((0, 0), (0, 1), (0, 2)));
    assert_eq!(bench.ask(1, 1, 2), (0, 0));
    assert_eq!(bench.device.state().plugged, 3 * BLOCK);
    assert_eq!(bench.ask(2, 0, 0), (0, 0));
    assert_eq!(bench.device.state(), MemState { requested: 5 * BLOCK, plugged: 0, size: BLOCKS * BLOCK });
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut bench = Bench::new(BLOCKS, true);
    assert_eq!(bench.ask(0, 0, 2), (0, 0));
    for (kind, first, blocks) in
        [(0, 1, 1), (0, 1, 2), (1, 1, 2), (1, 2, 1), (0, 2, 0), (0, BLOCKS - 1, 2), (3, BLOCKS, 1), (9, 0, 1)]
    {
        assert_eq!(bench.ask(kind, first, blocks), (3, 0), "{kind} {first} {blocks}");
    }
    for address in [0, u64::MAX, bench.start + 4096, bench.start - BLOCK] {
        for kind in [0, 1, 3] {
            assert_eq!(bench.ask_at(kind, address, 1), (3, 0), "{kind} {address:#x}");
        }
    }
    assert_eq!(bench.device.state().plugged, 2 * BLOCK);
}

#[test]
fn what_cannot_be_had_just_now_is_asked_for_again() {
    let mut bench = Bench::new(BLOCKS, false);
    assert_eq!(bench.ask(0, 0, 1), (2, 0));
    assert_eq!(bench.device.state().plugged, 0);
}

#[test]
fn a_change_is_told_and_read() {
    let bench = Bench::new(1, true);
    let field = |offset| {
        let mut bytes = [0; 8];
        bench.device.read_config(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    };
    assert_eq!([0, 8, 16, 24, 32, 40].map(field), [BLOCK, 0, bench.start, BLOCKS * BLOCK, BLOCKS * BLOCK, 0]);
    bench.device.resize(7 * BLOCK);
    assert_eq!((field(48), field(56)), (7 * BLOCK, 0));
}
