use proptest::prelude::*;

use super::*;

const APERTURES: Apertures = Apertures {
    mem32: GuestRange::new(0xd000_0000, 0x2e00_0000),
    mem64: GuestRange::new(0x40_0000_0000, 0x40_0000_0000),
    io: GuestRange::new(0x1000, 0xf000),
};

fn port(device: u8) -> Devfn {
    Devfn::new(device, 0)
}

fn bar(place: Place, index: u8, space: BarSpace, prefetchable: bool, size: u64) -> Demand {
    Demand { place, bar: BarWindow { index, space, prefetchable, address: 0, size } }
}

fn addresses(assignment: &Assignment) -> Vec<(String, u8, u64)> {
    let mut bars: Vec<_> =
        assignment.bars.iter().map(|(place, bar, at)| (place.to_string(), *bar, *at)).collect();
    bars.sort();
    bars
}

#[test]
fn a_port_gets_windows_that_hold_what_is_behind_it_and_more() {
    let behind = Place::behind(port(3), 0);
    let demands = [
        bar(behind, 0, BarSpace::Memory32, false, 0x4000),
        bar(behind, 1, BarSpace::Memory64, false, 0x1_0000),
        bar(behind, 3, BarSpace::Memory64, true, 0x1000_0000),
        bar(behind, 5, BarSpace::Io, false, 0x20),
        bar(Place::on_bus_0(port(1)), 0, BarSpace::Memory64, false, 0x10_0000),
    ];
    let assignment = assign(&APERTURES, &demands, &[port(3), port(4)]).unwrap();
    let windows = [port(3), port(4)].map(|port| assignment.windows[&port].clone());
    // Below 4 GiB 64 MiB for each, above it what leaves room for the other and for bus 0.
    assert_eq!(windows[0].mem32, GuestRange::new(0xd000_0000, 0x400_0000));
    assert_eq!(windows[1].mem32, GuestRange::new(0xd400_0000, 0x400_0000));
    assert_eq!(windows[0].mem64, GuestRange::new(0x40_0000_0000, 0x10_0000_0000));
    assert_eq!(windows[1].mem64, GuestRange::new(0x50_0000_0000, 0x10_0000_0000));
    assert_eq!(
        windows.map(|windows| windows.io),
        [GuestRange::new(0x1000, 0x1000), GuestRange::new(0x2000, 0x1000)]
    );
    assert_eq!(
        addresses(&assignment),
        [
            ("0000:00:01.0".to_owned(), 0, 0x60_0000_0000),
            ("0000:00:03.0/00.0".to_owned(), 0, 0xd001_0000),
            ("0000:00:03.0/00.0".to_owned(), 1, 0xd000_0000),
            ("0000:00:03.0/00.0".to_owned(), 3, 0x40_0000_0000),
            ("0000:00:03.0/00.0".to_owned(), 5, 0x1000),
        ]
    );
}

#[test]
fn without_ports_nothing_is_set_aside() {
    let assignment = assign(&APERTURES, &[], &[]).unwrap();
    assert!(assignment.windows.is_empty() && assignment.bars.is_empty());
}

#[test]
fn many_ports_share_what_there_is() {
    let ports: Vec<Devfn> = (1..32).map(port).collect();
    let assignment = assign(&APERTURES, &[], &ports).unwrap();
    for windows in assignment.windows.values() {
        assert_eq!((windows.mem32.size, windows.mem64.size), (16 << 20, 8 << 30));
        assert!(windows.io.is_empty(), "there are not enough ports for all");
    }
}

#[test]
fn what_is_needed_comes_before_what_is_spare() {
    let demands = [
        bar(Place::on_bus_0(port(1)), 0, BarSpace::Memory32, false, 0x1000_0000),
        bar(Place::behind(port(2), 0), 0, BarSpace::Memory32, false, 0x1000_0000),
        bar(Place::behind(port(3), 0), 0, BarSpace::Memory32, false, 0x800_0000),
    ];
    let assignment = assign(&APERTURES, &demands, &[port(2), port(3), port(4)]).unwrap();
    let sizes = [2, 3, 4].map(|device| assignment.windows[&port(device)].mem32.size);
    assert_eq!(sizes, [0x1000_0000, 0x800_0000, 0x400_0000]);
}

#[test]
fn a_window_that_does_not_fit_is_named() {
    let behind = Place::behind(port(2), 0);
    let demands: Vec<Demand> =
        (0..6).map(|index| bar(behind, index, BarSpace::Memory32, false, 1 << 28)).collect();
    let refused = assign(&APERTURES, &demands, &[port(2)]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the bars behind 0000:00:02.0, 0x60000000 bytes, do not fit the 32-bit memory window: at most 0x10000000 bytes \
         are free"
    );
    // Sizes that no address space has do not overflow.
    let demands = [0, 2, 4].map(|index| bar(behind, index, BarSpace::Memory64, true, 1 << 63));
    assert!(matches!(assign(&APERTURES, &demands, &[port(2)]), Err(PciBusError::NoWindow { .. })));
}

#[test]
fn what_fits_a_window_is_placed_by_the_guest_as_well() {
    let behind = Place::behind(port(2), 0);
    let windows = Apertures {
        mem32: GuestRange::new(0xd010_0000, 0x20_0000),
        mem64: GuestRange::new(0x40_0000_0000, 0x1000_0000),
        io: GuestRange::new(0, 0),
    };
    let fits = |demands: &[Demand]| fit(port(2), demands, &windows);
    let small = [
        bar(behind, 0, BarSpace::Memory32, false, 0x10_0000),
        bar(behind, 1, BarSpace::Memory64, false, 0x8_0000),
        bar(behind, 3, BarSpace::Memory64, true, 0x1000_0000),
        bar(behind, 5, BarSpace::Io, false, 0x100),
    ];
    assert_eq!(fits(&small), Ok(()));
    let excess = |space, size, room| Err(Excess { space, size, room });
    // Two MiB in the window, but not naturally aligned.
    let unaligned = [bar(behind, 0, BarSpace::Memory32, false, 0x20_0000)];
    assert_eq!(fits(&unaligned), excess(BarSpace::Memory32, 0x20_0000, 0x20_0000));
    let many: Vec<Demand> =
        (0..5).map(|index| bar(behind, index, BarSpace::Memory64, false, 0x8_0000)).collect();
    assert_eq!(fits(&many), excess(BarSpace::Memory32, 0x30_0000, 0x20_0000));
    let large = [bar(behind, 0, BarSpace::Memory64, true, 1 << 36)];
    assert_eq!(fits(&large), excess(BarSpace::Memory64, 1 << 36, 0x1000_0000));
}

fn demand() -> impl Strategy<Value = (u8, u8, u8, bool, u32)> {
    (1u8..8, 0u8..4, 0u8..3, any::<bool>(), 4u32..31)
}

proptest! {
    /// Whatever the devices: everything is naturally aligned, inside its window and apart, windows are whole steps inside
    /// the apertures, and each port has the same to spare; or something is refused that does not fit.
    #[test]
    fn placement_is_sound(
        demands in prop::collection::vec(demand(), 0..40),
        ports in prop::collection::btree_set(4u8..20, 0..8),
    ) {
        let ports: Vec<Devfn> = ports.into_iter().map(port).collect();
        let demands: Vec<Demand> = (0..).zip(demands).map(|(n, (device, function, space, prefetchable, order))| {
            let space = [BarSpace::Memory32, BarSpace::Memory64, BarSpace::Io][usize::from(space)];
            let order = if space == BarSpace::Io { order % 8 + 2 } else { order };
            // Every other one is behind a port, if there are any.
            let place = match ports.get(usize::from(device)) {
                Some(port) => Place::behind(*port, function),
                None => Place::on_bus_0(Devfn::new(20 + device, function)),
            };
            bar(place, n, space, prefetchable, 1 << order)
        }).collect();
        match assign(&APERTURES, &demands, &ports) {
            Err(PciBusError::NoRoom { size, left, .. }) => prop_assert!(left < size),
            Err(PciBusError::NoWindow { size, .. }) => prop_assert!(size > 0),
            Err(other) => prop_assert!(false, "{other}"),
            Ok(assignment) => {
                prop_assert_eq!(assignment.bars.len(), demands.len());
                let mut claims: Vec<(bool, GuestRange)> = Vec::new();
                let mut claim = |io: bool, range: GuestRange| {
                    let apart = range.is_empty()
                        || claims.iter().all(|(other_io, other)| *other_io != io || !other.overlaps(&range));
                    claims.push((io, range));
                    apart
                };
                for (devfn, windows) in &assignment.windows {
                    prop_assert!(ports.contains(devfn));
                    for (io, range, home, step) in [
                        (false, windows.mem32, APERTURES.mem32, MEMORY_STEP),
                        (false, windows.mem64, APERTURES.mem64, MEMORY_STEP),
                        (true, windows.io, APERTURES.io, IO_STEP),
                    ] {
                        prop_assert!(range.is_empty() || home.contains(&range));
                        prop_assert!(range.start % step == 0 && range.size % step == 0);
                        prop_assert!(claim(io, range));
                    }
                }
                let mut inside: Vec<(Place, bool, GuestRange)> = Vec::new();
                for (place, index, address) in &assignment.bars {
                    let demand = demands.iter().find(|demand| demand.bar.index == *index).unwrap();
                    prop_assert_eq!(demand.place, *place);
                    let io = demand.bar.space == BarSpace::Io;
                    let range = GuestRange::new(*address, demand.size());
                    prop_assert_eq!(address % demand.size(), 0);
                    let window = BarWindow { address: *address, ..demand.bar };
                    match place.port {
                        Some(port) => prop_assert!(assignment.windows[&port].admit(&window)),
                        None => prop_assert!(APERTURES.admit(&window) && claim(io, range)),
                    }
                    let below = demand.bar.space == BarSpace::Memory32
                        || place.port.is_some() && demand.bar.space == BarSpace::Memory64 && !demand.bar.prefetchable;
                    prop_assert!(!below || APERTURES.mem32.contains(&range));
                    let apart = |(_, other_io, other): &(Place, bool, GuestRange)| {
                        *other_io != io || !other.overlaps(&range)
                    };
                    prop_assert!(inside.iter().all(apart));
                    inside.push((*place, io, range));
                }
                // A port without anything behind it has what is spare, and the others no less.
                for size in [|w: &Apertures| w.mem32.size, |w: &Apertures| w.mem64.size] {
                    let is_empty = |port: &Devfn| demands.iter().all(|demand| demand.place.port != Some(*port));
                    let spare = assignment.windows.iter().filter(|(port, _)| is_empty(port)).map(|(_, w)| size(w));
                    let spare: Vec<u64> = spare.collect();
                    let all = assignment.windows.values().map(size).min().unwrap_or(0);
                    prop_assert!(spare.iter().all(|spare| *spare == all), "{spare:?} {all}");
                }
            }
        }
    }
}
