//! Images of disks: what is in the file, then what a guest does with the disk that it became.
//!
//! The first byte says how it is opened and how many requests follow, 8 bytes each; the rest is the file.

use std::os::unix::fs::FileExt;

use devices::disk::{Buffers, Disk, DiskOptions, Engine, Format, Operation};
use memory::GuestRange;

use super::virtio::{memfd, path_of};
use crate::Input;
use crate::fakes::ram;

/// Where the buffers are, and the largest.
const BUFFER: u64 = 1 << 20;
const MOST: u64 = 1 << 20;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let how = input.byte();
    let requests: Vec<[u8; 8]> = (0..how >> 4).map(|_| input.qword().to_le_bytes()).collect();
    let image = input.rest();
    let file = memfd();
    file.write_all_at(image, 0).unwrap();
    let mut options = DiskOptions::new(path_of(&file));
    // Without a format it is for the content to say, or to be refused.
    options.format = match how & 3 {
        0 => Some(Format::Raw),
        1 => None,
        _ => Some(Format::Qcow2),
    };
    options.read_only = how & 4 != 0;
    let Ok(disk) = Disk::open(&options) else { return };
    let size = disk.size();
    assert!(size > 0 && size.is_multiple_of(u64::from(disk.topology().logical)), "{size}");
    let Ok(mut engine) = Engine::new(&disk, 16) else { return };
    let ram = ram();
    for (token, request) in (0..).zip(requests) {
        let [kind, length, place @ ..] = request;
        let place = place.into_iter().fold(0, |sum, byte| sum << 8 | u64::from(byte));
        // Near the start, near the end, or anywhere.
        let offset = match kind >> 4 & 3 {
            0 => place % (1 << 20),
            1 => size.saturating_sub(place % (1 << 17)),
            _ => place % size,
        } / 512
            * 512;
        let length = (u64::from(length) * 512).clamp(512, MOST);
        let buffers = || Buffers::new(&ram, vec![GuestRange::new(BUFFER, length)]).unwrap();
        let operation = match kind & 7 {
            0..3 => Operation::Read { offset, into: buffers() },
            3 => Operation::Write { offset, from: buffers(), durable: false },
            4 => Operation::Write { offset, from: buffers(), durable: true },
            5 => Operation::Discard { offset, length },
            6 => Operation::WriteZeroes { offset, length, unmap: kind & 8 != 0 },
            _ => Operation::Flush,
        };
        let _ = engine.submit(token, operation);
        let _ = engine.kick();
        if kind & 0x80 != 0 {
            finish(&mut engine);
        }
    }
    finish(&mut engine);
}

/// Waits until nothing is in flight. Requests may fail; that they end is what counts.
fn finish(engine: &mut Engine) {
    engine.drain().unwrap();
    assert_eq!(engine.in_flight(), 0);
}
