use proptest::prelude::*;

use super::*;

fn spec(index: u8, space: BarSpace, size: u64) -> BarSpec {
    BarSpec { index, space, prefetchable: false, size }
}

fn register(bars: &BarSet, index: u16) -> u32 {
    let mut data = [0; 4];
    bars.read(BAR0 + index * 4, &mut data);
    u32::from_le_bytes(data)
}

fn set_register(bars: &mut BarSet, index: u16, value: u32) {
    bars.write(BAR0 + index * 4, &value.to_le_bytes());
}

fn example() -> BarSet {
    let mut bars = BarSet::new();
    bars.add(BarSpec { prefetchable: true, ..spec(0, BarSpace::Memory64, 1 << 34) }).unwrap();
    bars.add(spec(2, BarSpace::Memory32, 0x4000)).unwrap();
    bars.add(spec(3, BarSpace::Io, 0x20)).unwrap();
    bars.add(spec(4, BarSpace::Memory64, 0x1000)).unwrap();
    bars
}

#[test]
fn sizing_reads_back_masks_and_flags() {
    let mut bars = example();
    bars.write(BAR0, &[0xff; 24]);
    assert_eq!(register(&bars, 0), 0xc);
    assert_eq!(register(&bars, 1), 0xffff_fffc);
    assert_eq!(register(&bars, 2), 0xffff_c000);
    assert_eq!(register(&bars, 3), 0xffff_ffe1);
    assert_eq!(register(&bars, 4), 0xffff_f004);
    assert_eq!(register(&bars, 5), 0xffff_ffff);
    bars.reset();
    assert_eq!((0..6).map(|i| register(&bars, i)).collect::<Vec<_>>(), [0xc, 0, 0, 1, 4, 0]);
}

#[test]
fn absent_registers_read_zero_whatever_is_written() {
    let mut bars = BarSet::new();
    bars.write(BAR0, &[0xff; 24]);
    bars.write(u16::MAX, &[0xff; 4]);
    assert!((0..6).all(|index| register(&bars, index) == 0));
    assert!(bars.windows().is_empty());
}

#[test]
fn byte_and_straddling_writes_touch_only_their_bytes() {
    let mut bars = example();
    set_register(&mut bars, 2, 0xd000_0000);
    bars.write(BAR0 + 2 * 4 + 2, &[0x12]);
    assert_eq!(register(&bars, 2), 0xd012_0000);
    bars.write(BAR0 + 4 * 4 + 2, &[0xaa, 0xbb, 0xcc, 0xdd]);
    assert_eq!((register(&bars, 4), register(&bars, 5)), (0xbbaa_0004, 0x0000_ddcc));
    let mut around = [0x77; 4];
    bars.read(BAR0 - 2, &mut around);
    assert_eq!(around, [0x77, 0x77, 0xc, 0], "bytes outside are left alone");
    bars.write(BARS_END - 2, &[0, 0, 0xee, 0xee]);
    assert_eq!(register(&bars, 5), 0xddcc);
}

#[test]
fn place_rounds_down_and_stays_reachable() {
    let mut bars = example();
    bars.place(0, 0x10_1234_5678);
    bars.place(2, 0x1_d000_4fff);
    bars.place(5, 0x1000);
    bars.place(99, 0x1000);
    let addresses: Vec<_> = bars.windows().iter().map(|w| w.address).collect();
    assert_eq!(addresses, [0x10_0000_0000, 0xd000_4000, 0, 0]);
}

#[test]
fn the_command_register_decides_what_is_decoded() {
    let bars = example();
    let indices = |command| bars.decoded(command).iter().map(|w| w.index).collect::<Vec<_>>();
    assert_eq!(indices(0), []);
    assert_eq!(indices(1), [3]);
    assert_eq!(indices(2), [0, 2, 4]);
    assert_eq!(indices(3), [0, 2, 3, 4]);
}

#[test]
fn refuses_impossible_bars() {
    let mut bars = example();
    assert_eq!(bars.add(spec(1, BarSpace::Memory32, 0x1000)), Err(BarError::Taken(1)));
    assert_eq!(bars.add(spec(4, BarSpace::Memory64, 0x1000)), Err(BarError::Taken(4)));
    assert_eq!(bars.add(spec(7, BarSpace::Memory32, 0x1000)), Err(BarError::Index(7)));
    let mut bars = BarSet::new();
    assert_eq!(bars.add(spec(5, BarSpace::Memory64, 0x1000)), Err(BarError::Index(5)));
    for (space, size) in [
        (BarSpace::Memory32, 0),
        (BarSpace::Memory32, 8),
        (BarSpace::Memory32, 0x3000),
        (BarSpace::Memory32, 1 << 32),
        (BarSpace::Io, 2),
        (BarSpace::Io, 1 << 17),
    ] {
        assert_eq!(bars.add(spec(0, space, size)), Err(BarError::Size { index: 0, space, size }));
    }
    assert!(bars.windows().is_empty());
}

#[test]
fn a_refused_pair_leaves_nothing_behind() {
    let mut bars = BarSet::new();
    bars.add(spec(0, BarSpace::Memory32, 0x1000)).unwrap();
    assert_eq!(bars.add(spec(0, BarSpace::Memory64, 0x1000)), Err(BarError::Taken(0)));
    bars.add(spec(1, BarSpace::Memory32, 0x1000)).unwrap();
}

fn any_bars() -> impl Strategy<Value = BarSet> {
    let slot = (0u8..6, 0u8..3, any::<bool>(), 2u32..64);
    prop::collection::vec(slot, 0..8).prop_map(|slots| {
        let mut bars = BarSet::new();
        for (index, space, prefetchable, order) in slots {
            let space = [BarSpace::Memory32, BarSpace::Memory64, BarSpace::Io][usize::from(space)];
            let _ = bars.add(BarSpec { index, space, prefetchable, size: 1 << order });
        }
        bars
    })
}

proptest! {
    /// Whatever a guest writes, windows stay naturally aligned and reachable, and registers are stable under rewriting.
    #[test]
    fn hostile_writes_keep_windows_sane(
        mut bars in any_bars(),
        writes in prop::collection::vec((0u16..0x40, prop::collection::vec(any::<u8>(), 0..9)), 0..32),
    ) {
        let shape: Vec<_> = bars.windows().iter().map(|w| (w.index, w.space, w.size)).collect();
        for (offset, data) in writes {
            bars.write(offset, &data);
            for window in bars.windows() {
                prop_assert_eq!(window.address % window.size, 0);
                prop_assert!(window.space == BarSpace::Memory64 || window.address < 1 << 32);
            }
        }
        let mut now = [0; 24];
        bars.read(BAR0, &mut now);
        bars.write(BAR0, &now);
        let mut again = [0; 24];
        bars.read(BAR0, &mut again);
        prop_assert_eq!(now, again);
        prop_assert_eq!(shape, bars.windows().iter().map(|w| (w.index, w.space, w.size)).collect::<Vec<_>>());
    }

    /// The way operating systems size a BAR finds its size, and the address survives being restored.
    #[test]
    fn sizing_finds_the_size(mut bars in any_bars(), address: u64) {
        for window in bars.windows() {
            bars.place(window.index, address);
            let index = u16::from(window.index);
            let wide = window.space == BarSpace::Memory64;
            let registers = if wide { vec![index, index + 1] } else { vec![index] };
            let before: Vec<_> = registers.iter().map(|r| register(&bars, *r)).collect();
            for r in &registers { set_register(&mut bars, *r, u32::MAX); }
            let flags = if window.space == BarSpace::Io { 0x3 } else { 0xf };
            let low = u64::from(register(&bars, index) & !flags);
            let high = if wide { u64::from(register(&bars, index + 1)) } else { 0xffff_ffff };
            prop_assert_eq!((!(high << 32 | low)).wrapping_add(1), window.size);
            for (r, value) in registers.iter().zip(&before) { set_register(&mut bars, *r, *value); }
            for (r, value) in registers.iter().zip(&before) { prop_assert_eq!(register(&bars, *r), *value); }
        }
    }
}

fn with_rom(size: u64) -> BarSet {
    let mut bars = example();
    bars.add(spec(ROM_BAR, BarSpace::Memory32, size)).unwrap();
    bars
}

fn rom(bars: &BarSet) -> u32 {
    let mut data = [0; 4];
    bars.read(ROM_REGISTER, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn the_rom_decodes_when_memory_and_itself_are_enabled() {
    let mut bars = with_rom(0x1_0000);
    bars.write(ROM_REGISTER, &0xffff_fffeu32.to_le_bytes());
    assert_eq!(rom(&bars), 0xffff_0000, "sizing");
    bars.place(ROM_BAR, 0xd123_4567);
    assert_eq!(rom(&bars), 0xd123_0000);
    let (space, address) = (BarSpace::Memory32, 0xd123_0000);
    let window = BarWindow { index: 6, space, prefetchable: false, address, size: 0x1_0000 };
    assert!(bars.windows().contains(&window));
    assert!(!bars.decoded(COMMAND_MEMORY).contains(&window), "not enabled");
    bars.write(ROM_REGISTER, &[0xff]);
    assert_eq!(rom(&bars), 0xd123_0001);
    assert!(bars.decoded(COMMAND_MEMORY).contains(&window));
    assert!(!bars.decoded(COMMAND_IO).contains(&window));
    bars.place(ROM_BAR, 0xe000_0000);
    assert_eq!(rom(&bars), 0xe000_0001, "placing does not disable it");
    bars.reset();
    assert_eq!(rom(&bars), 0);
}

#[test]
fn a_rom_has_a_size_its_register_can_say() {
    for (space, size) in [
        (BarSpace::Memory32, 0x400),
        (BarSpace::Memory32, 0x2800),
        (BarSpace::Memory32, 1 << 25),
        (BarSpace::Memory64, 0x1000),
        (BarSpace::Io, 0x1000),
    ] {
        assert!(matches!(example().add(spec(ROM_BAR, space, size)), Err(BarError::Size { index: 6, .. })));
    }
    assert_eq!(with_rom(0x800).add(spec(ROM_BAR, BarSpace::Memory32, 0x800)), Err(BarError::Taken(6)));
    assert_eq!(rom(&example()), 0, "without one the register is left alone");
}
