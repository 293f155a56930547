use std::collections::BTreeMap;

use super::*;
use crate::virtio::testing::{BUFFERS, DriverRing, Guest};

const ANSWER: u64 = BUFFERS + 0x1000;
const ENDPOINT: u32 = 0x18;

type Reached = Arc<Mutex<BTreeMap<u64, (GuestRange, Access)>>>;

/// Has one space reach what it is told to.
struct Willing(Reached);

impl Reach for Willing {
    fn map(
        &self,
        spaces: &[usize],
        iova: &RangeInclusive<u64>,
        guest: GuestRange,
        access: Access,
    ) -> Result<(), Unreached> {
        assert_eq!(spaces, [0]);
        lock(&self.0).insert(*iova.start(), (guest, access));
        Ok(())
    }

    fn unmap(&self, _: &[usize], iova: &RangeInclusive<u64>) -> Result<(), Unreached> {
        lock(&self.0).retain(|first, _| !iova.contains(first));
        Ok(())
    }

    fn clear(&self, _: usize) -> Result<(), Unreached> {
        lock(&self.0).clear();
        Ok(())
    }
}

struct Bench {
    device: Arc<Iommu>,
    guest: Guest,
    rings: [DriverRing; 2],
    reached: Reached,
}

impl Bench {
    fn new() -> Self {
        let reached = Reached::default();
        let spaces = vec![Space::new(&[0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff], Some(100))];
        let endpoints = vec![(ENDPOINT, 0)];
        let device = Arc::new(Iommu::new(endpoints, spaces, Box::new(Willing(reached.clone()))));
        let guest = Guest::new(device.clone());
        let rings = [0, 1].map(|index| DriverRing::new(&guest.ram, index, 16, false));
        let mut bench = Self { device, guest, rings, reached };
        bench.start();
        bench
    }

    fn start(&mut self) {
        let [requests, events] = &self.rings;
        self.guest.start(requests.features() | FEATURES, &[requests, events]);
    }

    /// Sends a request; gives what the device wrote.
    fn ask(&mut self, kind: u8, words: &[u32], room: u32) -> Vec<u8> {
        let [requests, _] = &mut self.rings;
        requests.put(BUFFERS, u32::from(kind));
        (1..).zip(words).for_each(|(at, word)| requests.put(BUFFERS + at * 4, *word));
        let length = 4 + words.len() as u32 * 4;
        let id = requests.add(&[(BUFFERS, length)], &[(ANSWER, room)]);
        self.guest.kick(0);
        let (used, written) = self.guest.wait_for_used(0, requests);
        assert_eq!(used, id);
        (0..u64::from(written)).map(|at| requests.get(ANSWER + at)).collect()
    }

    fn status(&mut self, kind: u8, words: &[u32]) -> u8 {
        let answer = self.ask(kind, words, 4);
        assert_eq!((answer.len(), &answer[1..]), (4, &[0, 0, 0][..]));
        answer[0]
    }
}

#[test]
fn a_driver_maps_and_unmaps() {
    let mut bench = Bench::new();
    assert_eq!(bench.status(3, &[1, 0x1000, 0, 0x1fff, 0, 0x5000, 0, 3]), 6, "no domain yet");
    assert_eq!(bench.status(1, &[1, ENDPOINT, 0, 0]), 0);
    assert_eq!(bench.status(3, &[1, 0x1000, 0, 0x1fff, 0, 0x5000, 0, 1]), 0);
    let page = GuestRange::new(0x5000, 0x1000);
    assert_eq!(lock(&bench.reached).get(&0x1000), Some(&(page, Access { read: true, write: false })));
    // Beyond the 16 MiB that there are.
    assert_eq!(bench.status(3, &[1, 0x3000, 0, 0x3fff, 0, 0x100_0000, 0, 3]), 4);
    assert_eq!(bench.status(4, &[1, 0, 0, u32::MAX, u32::MAX, 0]), 0);
    assert_eq!(lock(&bench.reached).len(), 0);
    assert_eq!(bench.status(2, &[1, ENDPOINT, 0, 0]), 0);
    assert_eq!(bench.status(77, &[]), 2);
    assert_eq!(bench.status(1, &[]), 4);
}

#[test]
fn a_driver_is_told_what_cannot_be_mapped() {
    let mut bench = Bench::new();
    let mut probe = vec![0; 17];
    probe[0] = ENDPOINT;
    let said = bench.ask(5, &probe, 28);
    assert_eq!((said.len(), said[4], said[24]), (28, 1, 0));
    assert_eq!(said[8..16], 0xfee0_0000_u64.to_le_bytes());
    probe[0] = 1;
    let said = bench.ask(5, &probe, 28);
    assert_eq!((said[..24].iter().all(|byte| *byte == 0), said[24]), (true, 6));
    let mut config = [0; 44];
    bench.device.read_config(0, &mut config);
    let (longs, words) = config.split_at(24);
    assert_eq!(longs, [!0xfff_u64, 0, 0x7f_ffff_ffff].map(u64::to_le_bytes).concat());
    assert_eq!(words, [0, LAST_DOMAIN, 24, 0, 0].map(u32::to_le_bytes).concat());
}

#[test]
fn when_the_driver_is_gone_nothing_is_reached() {
    let mut bench = Bench::new();
    assert_eq!(bench.status(1, &[1, ENDPOINT, 0, 0]), 0);
    assert_eq!(bench.status(3, &[1, 0x1000, 0, 0x1fff, 0, 0x5000, 0, 3]), 0);
    assert_eq!(lock(&bench.reached).len(), 1);
    bench.guest.function.reset_device();
    assert_eq!(lock(&bench.reached).len(), 0);
}

#[test]
fn an_answer_without_room_stops_the_device() {
    let mut bench = Bench::new();
    let [requests, _] = &mut bench.rings;
    requests.put(BUFFERS, 1_u32);
    requests.add(&[(BUFFERS, 4)], &[(ANSWER, 3)]);
    bench.guest.kick(0);
    bench.guest.wait_for_vector(0);
    assert_eq!(bench.guest.status() & 0x40, 0x40);
}
