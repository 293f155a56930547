use std::sync::atomic::Ordering;

use super::super::fixture::{DECODE, IO, MEM32, area, io, mem32, mem64, setup};
use super::super::{BarSpace, Departure};
use super::*;
use crate::testing::FakeFunction;

const ENDPOINT: Devfn = Devfn::new(0, 0);
const ABSENT: u32 = u32::MAX;
const FOUND: u32 = 0x5678_1234;
const BUSES: u16 = 0x18;
const COMMAND: u16 = 0x04;
/// Where firmware puts the first port's window above 4 GiB.
const ABOVE: u64 = 0x8_0000_0000;
/// Memory base and limit.
const WINDOW: u16 = 0x20;

#[test]
fn firmware_numbers_the_buses_behind_ports() {
    let s = setup();
    let (first, _) = s.port(3, &[mem32(0, 0x1000)]);
    let (second, _) = s.port(7, &[mem32(0, 0x1000)]);
    assert_eq!(s.bus.address(Place::behind(first, 0)), None);
    s.bus.assign_bars().unwrap();
    assert_eq!([first, second].map(|port| s.read(0, port, BUSES)), [0x0001_0100, 0x0002_0200]);
    assert_eq!([1, 2, 3].map(|bus| s.read(bus, ENDPOINT, 0)), [FOUND, FOUND, ABSENT]);
    assert_eq!(s.bus.address(Place::behind(second, 0)).unwrap().to_string(), "0000:02:00.0");
    assert_eq!(s.read(1, Devfn::new(1, 0), 0), ABSENT, "a link leads to one device");
    assert_eq!(s.read(1, Devfn::new(0, 1), 0), ABSENT);
    assert_eq!(Place::behind(second, 3).to_string(), "0000:00:07.0/00.3");
}

#[test]
fn configuration_follows_the_numbers_that_ports_hold_now() {
    let s = setup();
    let (first, _) = s.port(3, &[mem32(0, 0x1000)]);
    let (second, _) = s.port(7, &[mem32(0, 0x2000)]);
    let size = |bus| {
        s.write(bus, ENDPOINT, 0x10, u32::MAX);
        s.read(bus, ENDPOINT, 0x10)
    };
    s.write(0, first, BUSES, 0x0020_2000);
    s.write(0, second, BUSES, 0x0040_3000);
    assert_eq!([0x20, 0x30].map(size), [0xffff_f000, 0xffff_e000]);
    // Buses 0x31 to 0x40 are behind the second port, and empty, since what is there is no bridge.
    assert_eq!([1, 0x1f, 0x21, 0x31, 0x40, 0x41].map(|bus| s.read(bus, ENDPOINT, 0)), [ABSENT; 6]);
    // A port that forwards a bus hides a later one that leads to it.
    s.write(0, first, BUSES, 0x0050_2000);
    assert_eq!(s.read(0x30, ENDPOINT, 0), ABSENT);
    s.write(0, first, BUSES, 0);
    assert_eq!((s.read(0x20, ENDPOINT, 0), s.read(0x30, ENDPOINT, 0)), (ABSENT, FOUND));
    s.write(0, second, BUSES, 0x0010_3000);
    assert_eq!(s.read(0x30, ENDPOINT, 0), ABSENT, "the last bus is before the first");
}

#[test]
fn several_functions_behind_a_port_are_one_device() {
    let s = setup();
    let (port, _) = s.port(3, &[]);
    let card = [0, 2].map(|number| (number, FakeFunction::new(&[]) as Arc<dyn PciFunction>)).to_vec();
    s.bus.insert(port, card).unwrap();
    s.bus.assign_bars().unwrap();
    // Power on.
    s.write_word(0, port, 0x78, 0x0100);
    assert_eq!([0, 1, 2, 3].map(|n| s.read(1, Devfn::new(0, n), 0)), [FOUND, ABSENT, FOUND, ABSENT]);
    assert_eq!(s.read(1, ENDPOINT, 0xc) >> 16 & 0xff, 0x80);
    assert_eq!(s.read(0, port, 0xc) >> 16 & 0xff, 1, "a bridge of its own");
}

#[test]
fn a_port_forwards_its_windows_and_no_more() {
    let s = setup();
    let (port, _) = s.port(3, &[mem32(0, 0x1000), mem64(2, 0x1000), io(4, 0x20)]);
    s.bus.assign_bars().unwrap();
    s.write_word(1, ENDPOINT, COMMAND, DECODE);
    let bytes = || [MEM32.start, ABOVE].map(|at| s.mmio_byte(at));
    assert_eq!(bytes(), [0xff; 2], "the port forwards nothing yet");
    s.write_word(0, port, COMMAND, 2);
    assert_eq!(bytes(), [0, 2]);
    assert_eq!(s.pio.write(IO.start, &[0]), crate::Action::None);
    s.write_word(0, port, COMMAND, DECODE);
    assert_eq!(s.pio.write(IO.start, &[0]), crate::Action::Reset);
    s.write(0, port, WINDOW, 0xd050_d050);
    assert_eq!(bytes(), [0xff, 2], "the window moved away");
    s.write(1, ENDPOINT, 0x10, 0xd050_0000);
    assert_eq!(s.mmio_byte(0xd050_0000), 0, "and the bar after it");
    s.write(0, port, WINDOW, 0xd000_d010);
    assert_eq!(s.mmio_byte(0xd050_0000), 0xff, "an empty window");
}

#[test]
fn host_memory_follows_the_port() {
    let s = setup();
    let function = FakeFunction::with_areas(&[mem32(0, 0x2000)], &[(0, area(0x1000, 0x1000))]);
    let controller: Arc<dyn crate::irq::InterruptController> = s.controller.clone();
    let port = s.bus.add_port(Some(3), 1, vec![(0, function)], &controller).unwrap();
    s.bus.assign_bars().unwrap();
    s.write_word(1, ENDPOINT, COMMAND, 2);
    s.write_word(0, port, COMMAND, 2);
    assert_eq!(s.maps(), [MEM32.start + 0x1000]);
    s.write_word(0, port, COMMAND, 0);
    assert!(s.maps().is_empty());
    s.write_word(0, port, COMMAND, 2);
    // D3hot, and back.
    s.write_word(0, port, 0x44, 3);
    assert_eq!((s.maps(), s.read(1, ENDPOINT, 0)), (vec![], ABSENT));
    s.write_word(0, port, 0x44, 0);
    assert_eq!((s.maps(), s.read(1, ENDPOINT, 0)), (vec![MEM32.start + 0x1000], FOUND));
}

#[test]
fn a_secondary_bus_reset_reaches_the_functions_once() {
    let s = setup();
    let (port, function) = s.port(3, &[mem32(0, 0x1000)]);
    let function = function.unwrap();
    s.bus.assign_bars().unwrap();
    s.write_word(0, port, COMMAND, 2);
    s.write_word(1, ENDPOINT, COMMAND, 2);
    assert_eq!(s.mmio_byte(MEM32.start), 0);
    s.write_word(0, port, 0x3e, 0x40);
    s.write_word(0, port, 0x3e, 0x40);
    s.write_word(0, port, 0x3e, 0);
    assert_eq!((function.resets.load(Ordering::Relaxed), s.mmio_byte(MEM32.start)), (1, 0xff));
    assert_eq!(s.read(1, ENDPOINT, 0x10), 0, "bars are unplaced");
}

#[test]
fn a_function_on_bus_0_keeps_others_from_its_device_number() {
    let s = setup();
    s.add(&[]);
    let (port, _) = s.port(2, &[]);
    let controller: Arc<dyn crate::irq::InterruptController> = s.controller.clone();
    let taken = s.bus.add_port(Some(1), 1, Vec::new(), &controller).unwrap_err();
    assert_eq!(taken.to_string(), "0000:00:01.0 is in use");
    assert_eq!(s.bus.add(None, FakeFunction::new(&[])).unwrap().to_string(), "0000:00:03.0");
    assert_eq!(s.bus.add_device(None, vec![(0, FakeFunction::new(&[])), (1, FakeFunction::new(&[]))]), Ok(4));
    let no_port = s.bus.insert(Devfn::new(1, 0), Vec::new()).unwrap_err();
    assert_eq!(no_port.to_string(), "0000:00:01.0 is no root port");
    let twice = vec![(1, FakeFunction::new(&[]) as Arc<dyn PciFunction>), (1, FakeFunction::new(&[]))];
    assert_eq!(s.bus.insert(port, twice).unwrap_err().to_string(), "0000:00:02.0/00.1 is in use");
    assert_eq!(s.bus.port(port).unwrap().eject(std::time::Duration::ZERO), Departure::Empty);
}

#[test]
fn bars_that_bridges_cannot_reach_are_placed_below_4_gib() {
    let s = setup();
    let plain = |index, space| super::super::BarSpec { index, space, prefetchable: false, size: 0x4000 };
    let (_, function) = s.port(3, &[plain(0, BarSpace::Memory64), mem64(2, 0x1000)]);
    s.bus.assign_bars().unwrap();
    let placed: Vec<u64> = function.unwrap().bars().iter().map(|bar| bar.address).collect();
    assert_eq!(placed, [MEM32.start, ABOVE]);
}
