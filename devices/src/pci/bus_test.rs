use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

use memory::GuestRange;
use proptest::prelude::*;

use super::*;
use crate::pci::fixture::{DECODE, IO, MEM32, MEM64, Setup, area, io, mem32, mem64, setup};
use crate::pci::{BarSpec, BarWindow};
use crate::testing::FakeFunction;

#[test]
fn the_host_bridge_is_there_and_absent_functions_are_not() {
    let s = setup();
    let bridge = Devfn::new(0, 0);
    assert_eq!(s.dword(bridge, 0), 0x0008_1b36);
    assert_eq!(s.dword(bridge, 8) >> 8, 0x06_0000);
    s.set_bar(bridge, 0, u32::MAX);
    assert_eq!(s.dword(bridge, 0x10), 0, "no bars");
    assert_eq!(s.dword(Devfn::new(1, 0), 0), u32::MAX);
    assert_eq!(s.bus.config_write(0, Devfn::new(1, 0), 4, &[3]), Action::None);
}

#[test]
fn devices_take_the_number_asked_for_or_the_next() {
    let s = setup();
    let function = || FakeFunction::new(&[]);
    assert_eq!(s.bus.add(None, function()).unwrap().to_string(), "0000:00:01.0");
    assert_eq!(s.bus.add(Some(3), function()).unwrap().to_string(), "0000:00:03.0");
    assert_eq!(s.bus.add(None, function()).unwrap().to_string(), "0000:00:02.0");
    assert_eq!(s.bus.add(None, function()).unwrap().to_string(), "0000:00:04.0");
    let taken = s.bus.add(Some(3), function()).unwrap_err();
    assert_eq!(taken, PciBusError::Taken(Place::on_bus_0(Devfn::new(3, 0))));
    let unknown = s.bus.add(Some(32), function()).unwrap_err();
    assert_eq!(unknown, PciBusError::Unknown { device: 32, function: 0 });
    assert!(s.bus.add_function(1, 8, function()).is_err());
    assert!((5..32).all(|_| s.bus.add(None, function()).is_ok()));
    assert_eq!(s.bus.add(None, function()), Err(PciBusError::Full));
}

#[test]
fn accesses_wait_for_nobody_who_changes_the_hierarchy() {
    let s = setup();
    let function = s.add(&[]);
    let changing = lock(&s.bus.changes);
    assert_ne!(s.dword(function, 0), u32::MAX);
    assert_eq!(s.dword(Devfn::new(31, 0), 0), u32::MAX);
    assert_eq!(s.bus.config_write(0, function, 0x3c, &[9]), Action::None);
    drop(changing);
}

#[test]
fn several_functions_make_a_multi_function_device() {
    let s = setup();
    let first = s.add(&[]);
    let header = |devfn| s.dword(devfn, 0xc) >> 16 & 0xff;
    assert_eq!(header(first), 0);
    s.bus.add_function(first.device(), 5, FakeFunction::new(&[])).unwrap();
    assert_eq!(header(first), 0x80);
    assert_eq!(header(Devfn::new(first.device(), 5)), 0);
    let mut byte = [0];
    s.bus.config_read(0, first, 0xe, &mut byte);
    assert_eq!(byte, [0x80]);
}

#[test]
fn firmware_places_the_largest_first_and_naturally_aligned() {
    let s = setup();
    let small = s.add(&[mem32(0, 0x10), mem32(1, 0x4000), io(2, 0x20)]);
    let large = s.add(&[mem64(0, 1 << 34), mem64(2, 0x1000), mem32(4, 0x80_0000), io(5, 0x100)]);
    s.bus.assign_bars().unwrap();
    let addresses = |devfn| s.placed(devfn).iter().map(|w| w.address).collect::<Vec<_>>();
    assert_eq!(addresses(large), [0x4_0000_0000, 0x1_8000_0000, 0xd000_0000, 0x1000]);
    assert_eq!(addresses(small), [0xd080_4000, 0xd080_0000, 0x1100]);
    let before = (addresses(small), addresses(large));
    s.bus.assign_bars().unwrap();
    assert_eq!(before, (addresses(small), addresses(large)), "placing again changes nothing");
}

#[test]
fn a_bar_that_does_not_fit_is_named() {
    let s = setup();
    let devfn = s.add(&[mem32(0, 0x80_0000), mem32(3, 0x80_0000), mem32(5, 0x1000)]);
    let refused = s.bus.assign_bars().unwrap_err();
    let (address, space) = (devfn.address(), BarSpace::Memory32);
    assert_eq!(refused, PciBusError::NoRoom { address, bar: 5, size: 0x1000, space, left: 0 });
    assert_eq!(
        refused.to_string(),
        "bar 5 of 0000:00:01.0, 0x1000 bytes, does not fit the 32-bit memory window: at most 0x0 bytes are free"
    );
    let s = setup();
    s.add(&[mem64(0, 1 << 40)]);
    assert!(matches!(s.bus.assign_bars(), Err(PciBusError::NoRoom { left: 0x8_0000_0000, .. })));
}

#[test]
fn bars_are_mapped_while_they_are_decoded() {
    let s = setup();
    let devfn = s.add_mapped(
        &[mem64(0, 0x10000), io(2, 0x20)],
        &[(0, area(0, 0x2000)), (0, area(0x4000, 0xc000)), (2, area(0, 0x1000))],
    );
    s.bus.assign_bars().unwrap();
    let gpa = MEM64.start;
    assert_eq!((s.mmio_byte(gpa), s.maps()), (0xff, vec![]), "not decoded yet");
    s.command(devfn, 2);
    assert_eq!((s.mmio_byte(gpa + 0x3000), s.maps()), (0, vec![gpa, gpa + 0x4000]));
    assert_eq!(s.mmio.write(gpa, &[0]), Action::Reset);
    assert_eq!(s.pio.write(IO.start, &[0]), Action::None, "i/o is not decoded");
    s.command(devfn, 1);
    assert_eq!((s.mmio_byte(gpa), s.maps()), (0xff, vec![]));
    assert_eq!(s.pio.write(IO.start, &[0]), Action::Reset);
}

#[test]
fn a_bar_moves_with_what_it_maps() {
    let s = setup();
    let devfn = s.add_mapped(&[mem32(1, 0x2000)], &[(1, area(0x1000, 0x1000))]);
    s.bus.assign_bars().unwrap();
    s.command(devfn, 2);
    assert_eq!(s.maps(), [0xd000_1000]);
    s.set_bar(devfn, 1, u32::MAX);
    assert!(s.maps().is_empty(), "sizing decodes nothing");
    assert_eq!(s.mmio_byte(0xd000_0000), 0xff);
    s.set_bar(devfn, 1, 0xd030_0000);
    assert_eq!((s.mmio_byte(0xd030_0000), s.maps()), (1, vec![0xd030_1000]));
}

#[test]
fn nothing_outside_the_apertures_is_decoded() {
    let s = setup();
    let devfn = s.add(&[mem64(0, 0x1000), mem32(2, 0x1000), io(3, 0x100)]);
    s.command(devfn, DECODE);
    for (low, high) in [
        (0, 0),
        (0xfec0_0000, 0),
        (0xcfff_f000, 0),
        (0xd100_0000, 0),
        (0xffff_f000, u32::MAX),
        (0x7fff_f000, 1),
        (0x8000_0000, 0x11),
    ] {
        s.set_bar(devfn, 1, high);
        s.set_bar(devfn, 0, low);
        s.set_bar(devfn, 2, low);
        assert_eq!(s.mmio_byte(u64::from(high) << 32 | u64::from(low)), 0xff, "{high:#x}:{low:#x}");
    }
    for port in [0, 0xf00, 0x2000, 0xff00, 0xffff_ff00] {
        s.set_bar(devfn, 3, port);
        assert_eq!(s.pio.write(port.into(), &[0]), Action::None, "{port:#x}");
    }
}

#[test]
fn of_two_bars_at_one_address_the_first_answers_until_it_leaves() {
    let s = setup();
    let (first, second) = (s.add(&[mem32(0, 0x1000)]), s.add(&[mem32(1, 0x2000)]));
    for (devfn, bar) in [(first, 0), (second, 1)] {
        s.set_bar(devfn, bar, 0xd000_0000);
        s.command(devfn, 2);
    }
    assert_eq!((s.mmio_byte(0xd000_0000), s.mmio_byte(0xd000_1000)), (0, 0xff));
    s.command(first, 0);
    assert_eq!((s.mmio_byte(0xd000_0000), s.mmio_byte(0xd000_1000)), (1, 1));
}

#[test]
fn a_bar_does_not_shadow_another_device() {
    let s = setup();
    let fixed = Arc::new(ConfigPorts::new(Weak::new()));
    s.mmio.insert(GuestRange::new(0xd000_0800, 8), fixed).unwrap();
    let devfn = s.add_mapped(&[mem32(0, 0x1000)], &[(0, area(0, 0x1000))]);
    s.set_bar(devfn, 0, 0xd000_0000);
    s.command(devfn, 2);
    assert_eq!(s.mmio_byte(0xd000_0000), 0xff);
    assert!(s.maps().is_empty());
}

#[test]
fn what_cannot_be_mapped_is_trapped() {
    let s = setup();
    let areas = [
        (0, area(0, 0x1000)),
        (0, area(0x800, 0x1000)),
        (0, area(0xf000, 0x2000)),
        (0, area(!0xfff, 0x1000)),
    ];
    let devfn = s.add_mapped(&[mem32(0, 0x10000)], &areas);
    s.bus.assign_bars().unwrap();
    s.command(devfn, 2);
    assert_eq!(s.maps(), [0xd000_0000], "unaligned areas and those past the end stay out");
    s.command(devfn, 0);
    s.space.refusing.store(true, Ordering::Relaxed);
    s.command(devfn, 2);
    assert_eq!((s.mmio_byte(0xd000_0000), s.maps()), (0, vec![]));
    s.command(devfn, 0);
    assert_eq!(s.mmio_byte(0xd000_0000), 0xff);
}

#[test]
fn dropping_the_bus_unmaps_everything() {
    let s = setup();
    let devfn = s.add_mapped(&[mem32(0, 0x1000)], &[(0, area(0, 0x1000))]);
    s.mmio.insert(GuestRange::new(0xc000_0000, ECAM_BUS_SIZE), s.bus.ecam()).unwrap();
    s.bus.assign_bars().unwrap();
    s.command(devfn, 2);
    let Setup { mmio, space, bus, .. } = s;
    assert!(!space.mapped.lock().unwrap().is_empty());
    drop(bus);
    assert!(space.mapped.lock().unwrap().is_empty());
    let mut data = [0];
    mmio.read(0xd000_0000, &mut data);
    assert_eq!(data, [0xff]);
    mmio.read(0xc000_0000, &mut data);
    assert_eq!(data, [0xff], "the window outlives the bus and is empty");
}

#[test]
fn moving_bars_and_using_them_at_once_does_not_deadlock() {
    let s = Arc::new(setup());
    let devfn = s.add_mapped(&[mem32(0, 0x2000)], &[(0, area(0, 0x1000))]);
    let other = s.add_mapped(&[mem32(0, 0x1000)], &[(0, area(0, 0x1000))]);
    s.bus.assign_bars().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for device in [devfn, other] {
            let (s, done) = (&s, &done);
            scope.spawn(move || {
                for round in 0..300 {
                    s.set_bar(device, 0, 0xd000_0000 + (round % 3) * 0x1000);
                    s.command(device, (round % 2) as u16 * 2);
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = s.mmio.write(0xd000_0000, &[1]);
                s.mmio_byte(0xd000_1fff);
                s.bus.refresh();
            }
        });
    });
    s.command(devfn, 0);
    s.command(other, 0);
    assert!(s.maps().is_empty());
}

fn any_write() -> impl Strategy<Value = (u8, u16, Vec<u8>)> {
    let register = prop_oneof![2 => Just(4u16), 6 => (4u16..10).prop_map(|r| r * 4), 1 => 0u16..0x40];
    let interesting = prop_oneof![
        3 => (0u32..0x14).prop_map(|page| 0xd000_0000 + page * 0x800),
        2 => Just(0xd0ff_f000u32),
        1 => Just(u32::MAX),
        1 => 0u32..4,
        2 => (0u32..0x22).prop_map(|port| port * 0x100),
        1 => any::<u32>(),
    ];
    let data = (interesting, 0usize..3).prop_map(|(value, size)| value.to_le_bytes()[..1 << size].to_vec());
    (1u8..4, register, data)
}

proptest! {
    /// However a guest writes configuration space: mapped windows are inside the apertures, never overlap,
    /// and are exactly the decoded ones that may be mapped; host memory follows them.
    #[test]
    fn mapped_windows_stay_disjoint_and_inside(writes in prop::collection::vec(any_write(), 0..60)) {
        let s = setup();
        let bars = [mem32(0, 0x2000), mem64(1, 0x1000), io(3, 0x100), mem32(4, 0x10), mem32(5, 0x1000)];
        for _ in 0..3 {
            s.add_mapped(&bars, &[(0, area(0x1000, 0x1000)), (5, area(0, 0x1000))]);
        }
        for (device, offset, data) in writes {
            let _ = s.bus.config_write(0, Devfn::new(device, 0), offset, &data);
            let decoder = lock(&s.bus.decoder);
            let windows = decoder.windows();
            let range = |w: &BarWindow| GuestRange::new(w.address, w.size);
            for (i, (_, window)) in windows.iter().enumerate() {
                let io = window.space == BarSpace::Io;
                let homes: &[GuestRange] = if io { &[IO] } else { &[MEM32, MEM64] };
                prop_assert!(homes.iter().any(|home| home.contains(&range(window))));
                for (_, other) in &windows[..i] {
                    let same_space = (other.space == BarSpace::Io) == io;
                    prop_assert!(!(same_space && range(other).overlaps(&range(window))));
                }
            }
            // Nothing that is decoded and could be mapped is left out.
            for device in 1..4 {
                let devfn = Devfn::new(device, 0);
                for window in s.bus.route(0, devfn).unwrap().1.decoded() {
                    let io = window.space == BarSpace::Io;
                    let mapped = windows.contains(&(Place::on_bus_0(devfn), window));
                    let blocked = window.address.checked_add(window.size).is_none() || {
                        let homes: &[GuestRange] = if io { &[IO] } else { &[MEM32, MEM64] };
                        let inside = homes.iter().any(|home| home.contains(&range(&window)));
                        !inside || windows.iter().any(|(_, other)| {
                            (other.space == BarSpace::Io) == io && range(other).overlaps(&range(&window))
                        })
                    };
                    prop_assert!(mapped || blocked, "{:?} {:?}", devfn, window);
                }
            }
            let mut areas: Vec<u64> = windows.iter().filter_map(|(_, w)| match w.index {
                0 => Some(w.address + 0x1000),
                5 => Some(w.address),
                _ => None,
            }).collect();
            areas.sort_unstable();
            prop_assert_eq!(s.maps(), areas);
        }
    }

    /// Whatever the devices, firmware either places every BAR aligned, inside and apart, or names one.
    #[test]
    fn placement_is_sound(devices in prop::collection::vec(prop::collection::vec((0u8..3, 4u32..26), 0..6), 0..12)) {
        let s = setup();
        for bars in &devices {
            let mut set = crate::pci::BarSet::new();
            let mut specs = Vec::new();
            for (index, (space, order)) in bars.iter().enumerate() {
                let space = [BarSpace::Memory32, BarSpace::Memory64, BarSpace::Io][usize::from(*space)];
                let order = if space == BarSpace::Io { order % 8 + 2 } else { *order };
                let spec = BarSpec { index: index as u8, space, prefetchable: false, size: 1 << order };
                if set.add(spec).is_ok() { specs.push(spec); }
            }
            s.add(&specs);
        }
        match s.bus.assign_bars() {
            Err(PciBusError::NoRoom { size, left, .. }) => prop_assert!(left < size),
            Err(other) => prop_assert!(false, "{other}"),
            Ok(()) => {
                let mut windows = Vec::new();
                for device in 1..=devices.len() { windows.extend(s.placed(Devfn::new(device as u8, 0))); }
                for (i, window) in windows.iter().enumerate() {
                    let home = match window.space {
                        BarSpace::Memory32 => MEM32,
                        BarSpace::Memory64 => MEM64,
                        BarSpace::Io => IO,
                    };
                    let range = GuestRange::new(window.address, window.size);
                    prop_assert!(home.contains(&range) && window.address % window.size == 0);
                    let apart = |other: &BarWindow| !GuestRange::new(other.address, other.size).overlaps(&range);
                    prop_assert!(windows[..i].iter().all(apart));
                }
            }
        }
    }
}
