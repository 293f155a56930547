use proptest::prelude::*;

use super::super::bar::BarSpec;
use super::super::function::BarSpace;
use super::*;

const IDENTITY: Identity = Identity {
    vendor: 0x1af4,
    device: 0x1041,
    class: 0x02_0000,
    revision: 1,
    subsystem_vendor: 0x1234,
    subsystem: 0x5678,
};

fn space() -> ConfigSpace {
    let mut bars = BarSet::new();
    bars.add(BarSpec { index: 0, space: BarSpace::Memory32, prefetchable: false, size: 0x1000 }).unwrap();
    bars.add(BarSpec { index: 1, space: BarSpace::Io, prefetchable: false, size: 0x40 }).unwrap();
    ConfigSpace::new(&IDENTITY, bars)
}

fn dword(space: &ConfigSpace, offset: u16) -> u32 {
    let mut data = [0; 4];
    space.read(offset, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn the_header_identifies_the_function() {
    let space = space();
    assert_eq!(dword(&space, 0), 0x1041_1af4);
    assert_eq!(dword(&space, 8), 0x0200_0001);
    assert_eq!(dword(&space, 0x2c), 0x5678_1234);
    assert_eq!(dword(&space, 0x10), 0);
    assert_eq!(dword(&space, 0x14), 1);
    assert_eq!(dword(&space, 0x34), 0);
}

#[test]
fn only_writable_bits_change() {
    let mut space = space();
    space.write(0, &[0xff; 4]);
    space.write(8, &[0xff; 4]);
    space.write(COMMAND, &[0xff; 2]);
    assert_eq!(dword(&space, 0), 0x1041_1af4);
    assert_eq!(dword(&space, 8), 0x0200_0001);
    assert_eq!(space.word(COMMAND), COMMAND_WRITABLE);
    space.write(COMMAND + 1, &[0]);
    assert_eq!(space.word(COMMAND), COMMAND_WRITABLE & 0xff);
}

#[test]
fn status_errors_clear_by_writing_ones() {
    let mut space = space();
    space.add_capability(9, &[], &[]).unwrap();
    let status = 0xf900 | space.word(STATUS);
    space.set(STATUS, &status.to_le_bytes());
    space.write(STATUS, &0u16.to_le_bytes());
    assert_eq!(space.word(STATUS), 0xf910);
    space.write(STATUS, &0x2000u16.to_le_bytes());
    assert_eq!(space.word(STATUS), 0xd910);
    space.write(COMMAND, &[6, 0, 0xff, 0xff]);
    assert_eq!(dword(&space, COMMAND), 0x0010_0006);
}

#[test]
fn capabilities_are_chained() {
    let mut space = space();
    let first = space.add_capability(0x05, &[1, 2, 3], &[0xf0]).unwrap();
    let second = space.add_capability(0x11, &[0; 10], &[0, 0xc0, 0xff]).unwrap();
    assert_eq!((first, second), (0x40, 0x48));
    assert_eq!(space.word(STATUS), STATUS_CAPABILITIES);
    assert_eq!(dword(&space, 0x34), 0x40);
    assert_eq!(dword(&space, 0x40), 0x0201_4805);
    assert_eq!(space.word(0x48), 0x0011);
    space.write(0x40, &[0xff; 8]);
    assert_eq!(dword(&space, 0x40), 0x02f1_4805);
    space.write(0x48, &[0xff; 4]);
    assert_eq!(dword(&space, 0x48), 0xc000_0011);
}

#[test]
fn a_mask_longer_than_the_body_does_not_leak_into_the_next() {
    let mut space = space();
    space.add_capability(0x05, &[0, 0], &[0xff; 8]).unwrap();
    space.add_capability(0x11, &[0, 0], &[]).unwrap();
    space.write(0x44, &[0xff; 4]);
    assert_eq!(dword(&space, 0x44), 0x11);
}

#[test]
fn extended_capabilities_are_chained() {
    let mut space = space();
    assert_eq!(dword(&space, 0x100), 0);
    let first = space.add_extended_capability(0x0003, 1, &[0xaa; 8], &[]).unwrap();
    let second = space.add_extended_capability(0x000b, 2, &[0; 4], &[0xff]).unwrap();
    assert_eq!((first, second), (0x100, 0x10c));
    assert_eq!(dword(&space, 0x100), 0x10c1_0003);
    assert_eq!(dword(&space, 0x10c), 0x0002_000b);
    space.write(0x110, &[0xff; 4]);
    assert_eq!(dword(&space, 0x110), 0xff);
}

#[test]
fn capabilities_end_where_their_space_does() {
    let mut space = space();
    assert_eq!(space.add_capability(9, &[0; 190], &[]), Ok(0x40));
    let refused = space.add_capability(9, &[], &[]);
    assert_eq!(refused, Err(CapabilityError { id: 9, size: 2, at: 0x100 }));
    assert_eq!(dword(&space, 0x40) >> 8 & 0xff, 0, "the list still ends");
    assert_eq!(space.add_extended_capability(3, 1, &[0; 0xefc], &[]), Ok(0x100));
    assert!(space.add_extended_capability(3, 1, &[], &[]).is_err());
    assert!(space.add_extended_capability(3, 1, &vec![0; 70_000], &[]).is_err());
}

#[test]
fn bars_decode_as_the_command_register_says() {
    let mut space = space();
    space.write(0x10, &[0, 0, 0, 0xd0, 0, 0x20, 0, 0]);
    assert!(space.decoded().is_empty());
    space.write(COMMAND, &[2, 0]);
    assert_eq!(space.decoded().iter().map(|w| w.address).collect::<Vec<_>>(), [0xd000_0000]);
    space.write(COMMAND, &[3, 0]);
    assert_eq!(space.decoded().iter().map(|w| w.address).collect::<Vec<_>>(), [0xd000_0000, 0x2000]);
}

proptest! {
    #[test]
    fn hostile_accesses_never_panic_and_keep_the_identity(
        accesses in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..9)), 0..64),
    ) {
        let mut space = space();
        for (offset, mut data) in accesses {
            space.write(offset, &data);
            space.write(offset % 0x40, &data);
            space.read(offset, &mut data);
        }
        prop_assert_eq!(dword(&space, 0), 0x1041_1af4);
        prop_assert_eq!(dword(&space, 0x2c), 0x5678_1234);
    }
}
