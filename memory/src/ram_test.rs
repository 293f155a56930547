use vm_memory::{Bytes as _, GuestMemoryBackend};

use super::*;
use crate::AddressLimits;
use crate::bytes::{GIB, MIB};
use crate::residency::Surveyor;

fn layout(regions: &[(u64, u64)]) -> Layout {
    let mut layout = Layout::new(16 * MIB, &AddressLimits::cpu_only(46)).unwrap();
    layout.ram = regions.iter().map(|&(start, size)| GuestRange::new(start, size)).collect();
    layout
}

#[test]
fn all_address_spaces_agree_modulo_1_gib() {
    let ram = GuestRam::new(&layout(&[(0, 0x7b00_0000), (2 * GIB, GIB + 4096), (4 * GIB, 5 * GIB)])).unwrap();
    assert_eq!(ram.size(), 0x7b00_0000 + GIB + 4096 + 5 * GIB);
    for region in ram.regions() {
        assert_eq!(region.hva % GIB, region.guest.start % GIB);
        assert_eq!(region.offset % GIB, region.guest.start % GIB);
        assert_eq!(
            ram.guest_memory().get_host_address(GuestAddress(region.guest.start)).unwrap() as u64,
            region.hva
        );
    }
}

#[test]
fn a_piece_lies_in_one_region() {
    let ram = GuestRam::new(&layout(&[(0, 16 * MIB), (4 * GIB, 16 * MIB)])).unwrap();
    let piece = |start, size| ram.piece(GuestRange { start, size });
    let second = ram.regions()[1];
    let found = piece(4 * GIB + 4096, 8192).unwrap();
    assert_eq!((found.hva, found.offset), (second.hva + 4096, second.offset + 4096));
    assert!(piece(0, 16 * MIB).is_some() && piece(16 * MIB - 4096, 4096).is_some());
    for (start, size) in
        [(0, 0), (16 * MIB, 4096), (8 * MIB, 16 * MIB), (4 * GIB - 4096, 8192), (!0, 2), (!0, 1)]
    {
        assert!(piece(start, size).is_none(), "{start:#x} {size:#x}");
    }
}

#[test]
fn nothing_is_touched() {
    let ram = GuestRam::new(&Layout::new(40 * GIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&ram.file.metadata().unwrap());
    assert_eq!(blocks, 0);
    let census = Surveyor::new().census(&ram.chunks(GIB)[..1]).unwrap();
    assert_eq!((census.absent, census.total_pages), (GIB / 4096, GIB / 4096));
}

#[test]
fn pages_that_exist_are_shown_and_no_others() {
    let ram = GuestRam::new(&layout(&[(0, 16 * MIB), (4 * GIB, 16 * MIB)])).unwrap();
    let chunk = ram.chunks(4 * MIB)[5];
    let show = |chunk: &Chunk| {
        show_present(&ram.file, ram.backing, chunk.offset, chunk.hva, chunk.guest.size).unwrap();
        Surveyor::new().census(&ram.chunks(GIB)).unwrap()
    };
    assert_eq!(show(&chunk).absent, 32 * MIB / 4096);
    // The last one is not the chunk's.
    for page in [0, 5, 6, 7, 500, 1023, 1024] {
        std::os::unix::fs::FileExt::write_all_at(&*ram.file, b"x", chunk.offset + page * 4096).unwrap();
    }
    let allocated = ram.allocated();
    let census = show(&chunk);
    assert_eq!(ram.allocated(), allocated);
    let shown = census.total_pages - census.absent;
    // Huge pages are there as a whole.
    assert!(if allocated == 7 * 4096 { shown == 6 } else { shown > 6 }, "{shown} of {allocated} bytes");
}

#[test]
fn guest_memory_reads_and_writes_the_memfd() {
    let ram = GuestRam::new(&layout(&[(0, 32 * MIB), (4 * GIB, 32 * MIB)])).unwrap();
    ram.guest_memory().write_obj(0x1122_3344u32, GuestAddress(4 * GIB + 8)).unwrap();
    let mut read = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&*ram.file, &mut read, ram.regions()[1].offset + 8).unwrap();
    assert_eq!(u32::from_le_bytes(read), 0x1122_3344);
    assert!(ram.guest_memory().write_obj(0u8, GuestAddress(32 * MIB)).is_err());
}

#[test]
fn nobody_can_resize_it() {
    let ram = GuestRam::new(&layout(&[(0, 32 * MIB)])).unwrap();
    let shared = File::from(ram.memfd().try_clone_to_owned().unwrap());
    assert_eq!(shared.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(shared.set_len(64 * MIB).unwrap_err().raw_os_error(), Some(libc::EPERM));
}

#[test]
fn a_clone_that_lives_on_keeps_the_mapping() {
    let ram = GuestRam::new(&layout(&[(0, 16 * MIB)])).unwrap();
    let clone = ram.guest_memory().clone();
    drop(ram);
    clone.write_obj(7u8, GuestAddress(5)).unwrap();
    assert_eq!(clone.read_obj::<u8>(GuestAddress(5)).unwrap(), 7);
}

#[test]
fn the_address_space_is_given_back() {
    let ram = GuestRam::new(&layout(&[(0, 16 * MIB)])).unwrap();
    let start = ram.regions()[0].hva;
    drop(ram);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.lines().any(|line| line.starts_with(&format!("{start:x}-")) && line.contains("guest-ram")));
}

#[test]
fn impossible_sizes_are_refused() {
    let error = GuestRam::new(&layout(&[(0, 1 << 62)])).unwrap_err();
    assert!(matches!(error, RamError::Size { .. } | RamError::Reserve { .. }), "{error:?}");
    let error = GuestRam::new(&layout(&[(0, u64::MAX - 4095)])).unwrap_err();
    assert!(matches!(error, RamError::Unmappable { .. } | RamError::Size { .. }), "{error:?}");
}

#[test]
fn what_can_be_plugged_in_is_mapped_and_not_brought_up() {
    let layout = Layout::with_room(16 * MIB, 128 * MIB, &AddressLimits::cpu_only(46)).unwrap();
    let ram = GuestRam::new(&layout).unwrap();
    let room = ram.pluggable().unwrap().region();
    assert_eq!((ram.size(), ram.regions().last(), room.guest.size), (16 * MIB, Some(&room), 128 * MIB));
    assert_eq!(ram.chunks(GIB).iter().map(|chunk| chunk.guest.size).sum::<u64>(), 16 * MIB);
    ram.guest_memory().write_slice(&[1; 4096], GuestAddress(room.guest.start)).unwrap();
    assert!(ram.allocated() > 0);
    ram.discard(room.guest).unwrap();
    assert_eq!(ram.allocated(), 0);
}
