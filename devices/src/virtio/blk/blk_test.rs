use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use virtio_bindings::virtio_config::{VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::disk::{DiskOptions, Format};
use crate::irq::MsiVector;
use crate::rate::Rate;
use crate::virtio::testing::{BUFFERS, DriverRing, Guest};

const SIZE: u64 = 1 << 20;
const FEATURES: [u32; 4] = [
    abi::VIRTIO_BLK_F_FLUSH,
    abi::VIRTIO_BLK_F_DISCARD,
    abi::VIRTIO_BLK_F_WRITE_ZEROES,
    abi::VIRTIO_BLK_F_CONFIG_WCE,
];
/// Where a request's header, its data and its answer are.
const DATA: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x10_0000;
/// A guest with a disk of [`SIZE`] bytes, and its driver.
struct Rig {
    guest: Guest,
    ring: DriverRing,
    blk: Arc<Blk>,
    directory: TempDir,
}

fn options() -> BlkOptions {
    BlkOptions { serial: "a serial number".to_owned(), queues: 1, packed: false, limits: Limits::default() }
}

impl Rig {
    fn new(packed: bool, read_only: bool, options: BlkOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        std::fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
        let disk = Disk::open(&DiskOptions { read_only, ..DiskOptions::new(path) }).unwrap();
        assert_eq!(disk.format(), Format::Raw);
        let blk = Arc::new(Blk::new(disk, BlkOptions { packed, ..options }));
        let guest = Guest::new(blk.clone());
        let mut rig = Self { ring: DriverRing::new(&guest.ram, 0, 64, packed), guest, blk, directory };
        rig.start(&FEATURES);
        rig
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    /// Resets the device, and drives it again.
    fn start(&mut self, features: &[u32]) {
        let packed = self.ring.features() & 1 << VIRTIO_F_RING_PACKED != 0;
        self.guest.write(0x14, &[0]);
        self.ring = DriverRing::new(&self.guest.ram, 0, 64, packed);
        let offered = self.blk.features();
        let features = features.iter().fold(self.ring.features(), |all, bit| all | 1 << bit);
        let ring_features = self.ring.features();
        self.guest.start(features & (offered | ring_features), &[&self.ring]);
    }

    fn put(&self, address: u64, bytes: &[u8]) {
        self.guest.ram.guest_memory().write_slice(bytes, GuestAddress(address)).unwrap();
    }

    fn get(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.guest.ram.guest_memory().read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    fn header(&self, kind: u32, sector: u64) {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.put(BUFFERS, &header);
    }

    /// Has a chain answered.
    fn ask(&mut self, readable: &[(u64, u32)], writable: &[(u64, u32)]) -> u8 {
        self.put(STATUS, &[0xaa]);
        let id = self.ring.add(readable, writable);
        self.guest.kick(0);
        let (used, _) = self.guest.wait_for_used(0, &mut self.ring);
        assert_eq!(used, id);
        self.get(STATUS, 1)[0]
    }

    fn out(&mut self, kind: u32, sector: u64, data: &[u8]) -> u8 {
        self.header(kind, sector);
        self.put(DATA, data);
        let data = (DATA, data.len() as u32);
        let readable = [(BUFFERS, 16), data];
        let count = if data.1 == 0 { 1 } else { 2 };
        self.ask(&readable[..count], &[(STATUS, 1)])
    }

    fn read(&mut self, sector: u64, length: u32) -> (u8, Vec<u8>) {
        self.header(abi::VIRTIO_BLK_T_IN, sector);
        let status = self.ask(&[(BUFFERS, 16)], &[(DATA, length), (STATUS, 1)]);
        (status, self.get(DATA, length as usize))
    }

    fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.out(abi::VIRTIO_BLK_T_OUT, sector, data)
    }
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

#[test]
fn a_driver_that_kicks_only_when_asked_is_answered() {
    for packed in [false, true] {
        let mut rig = Rig::new(packed, false, options());
        rig.header(abi::VIRTIO_BLK_T_OUT, 0);
        rig.put(DATA, &[7; 4096]);
        // More at once than are many, and fewer, in a ring of 64 with three descriptors for each.
        for at_once in [20, 1, 20, 20, 3].repeat(40) {
            for index in 0..at_once {
                rig.ring.add(&[(BUFFERS, 16), (DATA, 4096)], &[(STATUS + index, 1)]);
            }
            if rig.ring.wants_kick() {
                rig.guest.kick(0);
            }
            for _ in 0..at_once {
                rig.guest.wait_for_used(0, &mut rig.ring);
            }
        }
    }
}

#[test]
fn what_is_written_is_read() {
    for packed in [false, true] {
        let mut rig = Rig::new(packed, false, options());
        assert_eq!(rig.write(8, &[7; 4096]), 0);
        assert_eq!(rig.out(abi::VIRTIO_BLK_T_FLUSH, 0, &[]), 0);
        assert_eq!(rig.read(8, 4096), (0, vec![7; 4096]));
        assert_eq!(std::fs::read(rig.image()).unwrap()[4096..8192], [7; 4096]);
        assert_eq!(rig.out(abi::VIRTIO_BLK_T_DISCARD, 0, &range(8, 8, 0)), 0);
        assert_eq!(rig.write(8, &[8; 512]), 0);
        assert_eq!(rig.out(abi::VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(8, 1, 1)), 0);
        assert_eq!(rig.read(8, 512), (0, vec![0; 512]));
    }
}

#[test]
fn the_serial_number_is_told() {
    let mut rig = Rig::new(false, false, options());
    rig.header(abi::VIRTIO_BLK_T_GET_ID, 0);
    assert_eq!(rig.ask(&[(BUFFERS, 16)], &[(DATA, 20), (STATUS, 1)]), 0);
    assert_eq!(rig.get(DATA, 20), b"a serial number\0\0\0\0\0");
    assert_eq!(rig.ask(&[(BUFFERS, 16)], &[(DATA, 19), (STATUS, 1)]), 1);
}

#[test]
fn a_read_only_disk_says_so_and_stays_as_it_is() {
    let mut rig = Rig::new(false, true, options());
    assert_ne!(rig.blk.features() & 1 << abi::VIRTIO_BLK_F_RO, 0);
    assert_eq!(rig.blk.features() & 1 << abi::VIRTIO_BLK_F_DISCARD, 0);
    assert_eq!(rig.write(0, &[1; 512]), 1);
    assert_eq!(rig.out(abi::VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(0, 1, 0)), 1);
    assert_eq!(rig.read(0, 512), (0, vec![0; 512]));
}

#[test]
fn requests_that_make_no_sense_are_errors() {
    let mut rig = Rig::new(false, false, options());
    let last = SIZE / 512;
    let out = abi::VIRTIO_BLK_T_OUT;
    for (what, status, expected) in [
        ("beyond the end", rig.write(last, &[0; 512]), 1),
        ("over the end", rig.write(last - 1, &[0; 1024]), 1),
        ("sector overflow", rig.write(u64::MAX, &[0; 512]), 1),
        ("offset overflow", rig.write(u64::MAX / 512, &[0; 512]), 1),
        ("no whole sector", rig.write(0, &[0; 513]), 1),
        ("no data", rig.out(out, 0, &[]), 1),
        ("unknown", rig.out(99, 0, &[]), 2),
        ("secure erase", rig.out(abi::VIRTIO_BLK_T_SECURE_ERASE, 0, &range(0, 1, 0)), 2),
        ("discard with unmap", rig.out(abi::VIRTIO_BLK_T_DISCARD, 0, &range(0, 1, 1)), 1),
        ("two ranges", rig.out(abi::VIRTIO_BLK_T_DISCARD, 0, &range(0, 1, 0).repeat(2)), 1),
        ("half a range", rig.out(abi::VIRTIO_BLK_T_DISCARD, 0, &range(0, 1, 0)[..8]), 1),
        ("unknown flag", rig.out(abi::VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(0, 1, 2)), 1),
        ("too much", rig.out(abi::VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(0, u32::MAX, 0)), 1),
    ] {
        assert_eq!(status, expected, "{what}");
    }
    rig.header(out, 0);
    assert_eq!(rig.ask(&[(BUFFERS, 15)], &[(STATUS, 1)]), 1, "half a header");
    rig.header(abi::VIRTIO_BLK_T_IN, 0);
    assert_eq!(rig.ask(&[(BUFFERS, 16)], &[(STATUS, 1)]), 1, "no room");
    assert_eq!(rig.write(0, &[1; 512]), 0, "afterwards all is well");
}

#[test]
fn a_chain_without_room_for_an_answer_stops_the_device_until_its_reset() {
    let mut rig = Rig::new(false, false, options());
    rig.header(abi::VIRTIO_BLK_T_FLUSH, 0);
    rig.ring.add(&[(BUFFERS, 16)], &[]);
    rig.guest.kick(0);
    rig.guest.wait_for_vector(0);
    assert_eq!(rig.guest.status() & 0x40, 0x40, "DEVICE_NEEDS_RESET");
    rig.start(&FEATURES);
    assert_eq!(rig.write(0, &[1; 512]), 0);
}

#[test]
fn data_may_be_cut_anywhere() {
    let mut rig = Rig::new(false, false, options());
    // The header ends within the first buffer, and the answer is the last byte of the last one.
    rig.header(abi::VIRTIO_BLK_T_OUT, 0);
    rig.put(BUFFERS + 16, &[3; 500]);
    rig.put(DATA, &[4; 12]);
    assert_eq!(rig.ask(&[(BUFFERS, 516), (DATA, 12)], &[(STATUS, 1)]), 0);
    rig.header(abi::VIRTIO_BLK_T_IN, 0);
    assert_eq!(rig.ask(&[(BUFFERS, 16)], &[(DATA, 100), (STATUS - 412, 413)]), 0);
    assert_eq!(rig.get(DATA, 100), [3; 100]);
    assert_eq!(rig.get(STATUS - 412, 412), [[3; 400].as_slice(), &[4; 12]].concat());
}

#[test]
fn resets_in_the_middle_of_requests_lose_nothing_that_was_answered() {
    let mut rig = Rig::new(false, false, BlkOptions { queues: 2, ..options() });
    for round in 1..=50_u8 {
        assert_eq!(rig.write(0, &[round; 512]), 0);
        for _ in 0..8 {
            rig.ring.add(&[(BUFFERS, 16), (DATA, 4096)], &[(STATUS, 1)]);
        }
        rig.header(abi::VIRTIO_BLK_T_OUT, 1024);
        rig.guest.kick(0);
        rig.start(&FEATURES);
        assert_eq!(rig.read(0, 512), (0, vec![round; 512]));
    }
}

#[test]
fn one_queue_is_reset_in_the_middle_of_its_requests_while_the_other_serves() {
    const OTHER: u64 = BUFFERS + 0x20_0000;
    let read = |ring: &mut DriverRing| ring.add(&[(OTHER, 16)], &[(OTHER + 0x1000, 4096), (OTHER + 16, 1)]);
    for packed in [false, true] {
        let mut rig = Rig::new(packed, false, BlkOptions { queues: 2, ..options() });
        let mut other = DriverRing::new(&rig.guest.ram, 1, 64, packed);
        rig.ring = DriverRing::new(&rig.guest.ram, 0, 64, packed);
        rig.guest.start(other.features() | 1 << VIRTIO_F_RING_RESET, &[&rig.ring, &other]);
        for round in 1..=50_u8 {
            for _ in 0..8 {
                read(&mut other);
            }
            rig.guest.kick(1);
            assert_eq!(rig.write(0, &[round; 512]), 0);
            rig.guest.reset_queue(1);
            // Nothing of it is touched any more.
            rig.put(OTHER + 0x1000, &[0xee; 4096]);
            assert_eq!(rig.read(0, 512), (0, vec![round; 512]));
            assert_eq!(rig.get(OTHER + 0x1000, 4096), [0xee; 4096]);
            other = DriverRing::new(&rig.guest.ram, 1, 64, packed);
            rig.guest.enable(1, &other.at);
        }
        let id = read(&mut other);
        rig.guest.kick(1);
        assert_eq!(rig.guest.wait_for_used(1, &mut other).0, id);
        assert_eq!(rig.get(OTHER + 0x1000, 512), [50; 512]);
    }
}

#[test]
fn limits_hold_and_everything_is_done_in_the_end() {
    let rate = Rate { per_second: 200, burst: 1 };
    let limits = Limits { operations: Some(rate), bytes: None };
    let mut rig = Rig::new(false, false, BlkOptions { limits, ..options() });
    let begun = Instant::now();
    rig.header(abi::VIRTIO_BLK_T_IN, 0);
    for _ in 0..21 {
        rig.ring.add(&[(BUFFERS, 16)], &[(DATA, 512), (STATUS, 1)]);
    }
    rig.guest.kick(0);
    for _ in 0..21 {
        rig.guest.wait_for_used(0, &mut rig.ring);
    }
    // The first passes, one is the burst, and each further one takes 5 ms.
    assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
}

#[test]
fn a_driver_hears_of_a_new_size() {
    let rig = Rig::new(false, false, options());
    let capacity = || {
        let mut bytes = [0; 8];
        rig.blk.read_config(0, &mut bytes);
        u64::from_le_bytes(bytes)
    };
    assert_eq!(capacity(), SIZE / 512);
    rig.blk.grow(2 * SIZE).unwrap();
    rig.guest.wait_for_vector(0);
    assert_eq!(capacity(), 2 * SIZE / 512);
    // Nothing has changed any more.
    rig.blk.grow(2 * SIZE).unwrap();
    assert!(!crate::eventfd::is_signalled(rig.guest.controller.alive()[0].eventfd()));
}

#[test]
fn caching_is_the_drivers_choice_if_it_knows_of_it() {
    let mut rig = Rig::new(false, false, options());
    let writeback = |rig: &Rig| {
        let mut byte = [0];
        rig.blk.read_config(config::WRITEBACK, &mut byte);
        byte[0]
    };
    assert_eq!(writeback(&rig), 1);
    rig.blk.write_config(config::WRITEBACK, &[0]);
    assert_eq!(writeback(&rig), 0);
    assert_eq!(rig.write(0, &[1; 512]), 0);
    rig.start(&[abi::VIRTIO_BLK_F_FLUSH]);
    assert_eq!(writeback(&rig), 1, "it flushes when it wants to");
    rig.start(&[]);
    assert_eq!(writeback(&rig), 0, "it cannot flush");
    assert_eq!(rig.write(0, &[1; 512]), 0);
}

#[test]
fn what_is_asked_for_is_counted() {
    let mut rig = Rig::new(false, false, options());
    assert_eq!(rig.blk.counts(), DiskCounts::default());
    rig.write(0, &[1; 1024]);
    rig.read(0, 512);
    rig.read(8, 4096);
    rig.out(abi::VIRTIO_BLK_T_FLUSH, 0, &[]);
    // A reset of the device does not set them back.
    rig.start(&FEATURES);
    rig.read(0, 512);
    let counts = rig.blk.counts();
    let expected = DiskCounts {
        reads: 3,
        read_bytes: 5120,
        writes: 1,
        written_bytes: 1024,
        others: 1,
        latency: counts.latency,
    };
    assert_eq!(counts, expected);
    assert_eq!(counts.latency.requests(), 5);
    assert!(!counts.latency.total.is_zero());
}
