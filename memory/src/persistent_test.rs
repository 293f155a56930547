use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::Bytes;

use super::*;
use crate::layout::AddressLimits;
use crate::{GuestRam, Layout};

/// A guest with a file of two granules, and the file.
fn guest(writable: bool) -> (GuestRam, GuestRange, File) {
    let file = File::from(memfd_create("pmem", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(2 * GRANULE).unwrap();
    let limits = AddressLimits::cpu_only(40);
    let mut layout = Layout::new(16 * MIB, &limits).unwrap();
    layout.add_persistent(&[2 * GRANULE], &limits).unwrap();
    let mut ram = GuestRam::new(&layout).unwrap();
    let memory =
        PersistentMemory::map(Arc::new(file.try_clone().unwrap()), layout.persistent[0], writable).unwrap();
    ram.attach(memory).unwrap();
    (ram, layout.persistent[0], file)
}

#[test]
fn what_is_written_there_is_in_the_file() {
    let (ram, at, file) = guest(true);
    ram.buffers().write_obj(0x1122_3344_u32, GuestAddress(at.start + GRANULE)).unwrap();
    ram.buffers().write_obj(7_u8, GuestAddress(5)).unwrap();
    assert_eq!(ram.guest_memory().read_obj::<u8>(GuestAddress(5)).unwrap(), 7);
    let mut read = [0; 4];
    file.read_exact_at(&mut read, GRANULE).unwrap();
    assert_eq!(u32::from_le_bytes(read), 0x1122_3344);
    assert_eq!(ram.persistent()[0].hva() % crate::layout::RAM_ALIGN, 0);
}

#[test]
fn it_is_no_ram() {
    let (ram, at, _file) = guest(true);
    assert!(ram.guest_memory().write_obj(0_u8, GuestAddress(at.start)).is_err());
    assert!(ram.regions().iter().all(|region| !region.guest.overlaps(&at)));
    assert_eq!((ram.size(), ram.chunks(MIB).len()), (16 * MIB, 16));
}

#[test]
fn devices_reach_what_they_may() {
    for writable in [true, false] {
        let (ram, at, _file) = guest(writable);
        assert!(ram.reaches(at.start, 4096, false) && ram.reaches(0, 4096, true));
        assert_eq!(ram.reaches(at.end() - 1, 1, true), writable);
        assert!(!ram.reaches(at.end() - 1, 2, false) && !ram.reaches(at.start - 1, 2, true));
        assert!(!ram.reaches(u64::MAX, 2, true) && !ram.reaches(16 * MIB, 1, true));
    }
}

#[test]
fn a_file_that_was_cut_short_is_seen() {
    let (ram, _, file) = guest(false);
    assert!(ram.persistent()[0].is_whole());
    file.set_len(2 * GRANULE - 1).unwrap();
    assert!(!ram.persistent()[0].is_whole());
}

#[test]
fn the_address_space_is_given_back() {
    let (ram, _, _file) = guest(true);
    let start = ram.persistent()[0].hva();
    drop(ram);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.lines().any(|line| line.starts_with(&format!("{start:x}-")) && line.contains("pmem")));
}
