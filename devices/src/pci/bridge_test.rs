use proptest::prelude::*;

use super::*;
use crate::pci::config::Identity;

fn bridge() -> ConfigSpace {
    let mut config =
        ConfigSpace::bridge(&Identity { vendor: 1, device: 2, class: 0x06_0400, ..Identity::default() });
    lay(&mut config);
    config
}

fn dword(config: &ConfigSpace, offset: u16) -> u32 {
    u32::from(config.word(offset)) | u32::from(config.word(offset + 2)) << 16
}

fn enabled(mut config: ConfigSpace) -> ConfigSpace {
    config.write(COMMAND, &[3, 0]);
    config
}

#[test]
fn the_header_is_that_of_a_bridge() {
    let mut config = bridge();
    assert_eq!(config.word(0x0e) & 0xff, 1);
    assert_eq!(dword(&config, 0x18), 0);
    assert_eq!(
        (dword(&config, 0x10), dword(&config, 0x2c), dword(&config, 0x38)),
        (0, 0, 0),
        "no bars, no rom"
    );
    for offset in (0x10..0x40).step_by(4) {
        config.write(offset, &[0xff; 4]);
    }
    // Primary, secondary and subordinate bus; I/O of 16 bits; memory; prefetchable memory of 64 bits; interrupt line;
    // of bridge control parity, SERR# and reset.
    for (offset, expected) in [
        (0x10, 0),
        (0x14, 0),
        (0x18, 0x00ff_ffff),
        (0x1c, 0x0000_f0f0),
        (0x20, 0xfff0_fff0),
        (0x24, 0xfff1_fff1),
        (0x28, u32::MAX),
        (0x2c, u32::MAX),
        (0x30, 0),
        (0x38, 0),
        (0x3c, 0x0043_00ff),
    ] {
        assert_eq!(dword(&config, offset), expected, "{offset:#x}");
    }
}

#[test]
fn what_firmware_programs_is_forwarded() {
    let mut config = bridge();
    let some = Apertures {
        mem32: GuestRange::new(0xd010_0000, 0x30_0000),
        mem64: GuestRange::new(0x40_0000_0000, 0x10_0000_0000),
        io: GuestRange::new(0x3000, 0x2000),
    };
    program(&mut config, 7, &some);
    assert_eq!(dword(&config, 0x18), 0x0007_0700);
    assert_eq!(dword(&config, 0x1c), 0x4030);
    assert_eq!(dword(&config, 0x20), 0xd030_d010);
    assert_eq!([0x24, 0x28, 0x2c].map(|at| dword(&config, at)), [0xfff1_0001, 0x40, 0x4f]);
    assert_eq!((windows(&config), forwarded(&config)), (some.clone(), Apertures::NONE), "not enabled");
    config.write(COMMAND, &[1, 0]);
    assert_eq!(forwarded(&config), Apertures { io: some.io, ..Apertures::NONE });
    config.write(COMMAND, &[2, 0]);
    assert_eq!(forwarded(&config), Apertures { io: GuestRange::new(0, 0), ..some });
}

#[test]
fn nothing_programmed_is_nothing_forwarded() {
    assert_eq!(forwarded(&enabled(bridge())), Apertures::NONE);
    assert_eq!(buses(&bridge()), None);
}

#[test]
fn the_guest_numbers_buses_and_resets_them() {
    let mut config = bridge();
    config.write(0x19, &[3, 5]);
    assert_eq!(buses(&config), Some(3..=5));
    assert!(!resets(&config));
    config.write(0x3e, &[0x40]);
    assert!(resets(&config));
}

#[test]
fn the_largest_window_there_can_be_does_not_wrap() {
    let mut config = enabled(bridge());
    config.write(0x24, &[0x00, 0x00, 0xff, 0xff]);
    config.write(0x28, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(forwarded(&config).mem64, GuestRange::new(0, u64::MAX));
}

fn range(step: u64, steps: u64) -> impl Strategy<Value = GuestRange> {
    (0..steps).prop_flat_map(move |first| {
        (0..=steps - first)
            .prop_map(move |count| GuestRange::new(if count == 0 { 0 } else { first * step }, count * step))
    })
}

proptest! {
    /// Windows of all sizes come back as they were programmed.
    #[test]
    fn programmed_windows_come_back(
        mem32 in range(MEMORY_STEP, 1 << 12),
        mem64 in range(MEMORY_STEP, 1 << 43),
        io in range(IO_STEP, 16),
        bus: u8,
    ) {
        let mut config = bridge();
        let some = Apertures { mem32, mem64, io };
        program(&mut config, bus, &some);
        prop_assert_eq!(forwarded(&enabled(config)), some);
    }
}
