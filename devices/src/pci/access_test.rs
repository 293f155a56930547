use super::*;
use crate::pci::fixture::{DECODE, mem32, setup};
use crate::testing::FakeFunction;

fn through(device: &dyn BusDevice, offset: u64, size: usize) -> Vec<u8> {
    let mut data = vec![0x5a; size];
    device.read(offset, &mut data);
    data
}

#[test]
fn ecam_reaches_every_register() {
    let s = setup();
    s.bus.add(Some(31), FakeFunction::new(&[mem32(0, 0x1000)])).unwrap();
    s.port(5, &[mem32(0, 0x1000)]);
    s.bus.assign_bars().unwrap();
    let ecam = s.bus.ecam();
    assert_eq!(through(&*ecam, 0, 4), [0x36, 0x1b, 0x08, 0x00]);
    assert_eq!(through(&*ecam, 31 << 15, 4), [0x34, 0x12, 0x78, 0x56]);
    assert_eq!(through(&*ecam, 31 << 15, 8), [0x34, 0x12, 0x78, 0x56, 0, 0, 0, 0]);
    assert_eq!(through(&*ecam, (31 << 15) + 1, 4), [0x12, 0x78, 0x56, 0], "unaligned");
    assert_eq!(through(&*ecam, (31 << 15) + 0xffe, 4), [0xff; 4], "crosses the end of the function");
    assert_eq!(through(&*ecam, (31 << 15) + (1 << 12), 2), [0xff; 2], "no function 1");
    assert_eq!(through(&*ecam, ECAM_BUS_SIZE, 4), [0x34, 0x12, 0x78, 0x56], "behind the port");
    assert_eq!(through(&*ecam, ECAM_BUS_SIZE + (1 << 15), 4), [0xff; 4], "a link leads to one device");
    assert_eq!(through(&*ecam, 2 * ECAM_BUS_SIZE, 4), [0xff; 4], "no bus 2");
    assert_eq!(through(&*ecam, 256 * ECAM_BUS_SIZE, 4), [0xff; 4], "no bus 256");
    assert_eq!(through(&*ecam, u64::MAX, 4), [0xff; 4]);
    assert_eq!(ecam.write((31 << 15) + 0x10, &[0, 0, 0, 0xd0]), Action::None);
    assert_eq!(through(&*ecam, (31 << 15) + 0x12, 2), [0x00, 0xd0]);
}

#[test]
fn the_configuration_ports_follow_mechanism_1() {
    let s = setup();
    let device = s.add(&[mem32(0, 0x1000)]);
    s.port(5, &[mem32(0, 0x1000)]);
    s.bus.assign_bars().unwrap();
    let ports = s.bus.config_ports();
    let select = |value: u32| assert_eq!(ports.write(0, &value.to_le_bytes()), Action::None);
    let selected = || u32::from_le_bytes(through(&*ports, 0, 4).try_into().unwrap());
    assert_eq!(through(&*ports, 4, 4), [0xff; 4], "not enabled");
    select(u32::MAX);
    assert_eq!(selected(), 0x80ff_fffc, "reserved bits stay zero");
    assert_eq!(ports.write(0, &[1]), Action::None);
    assert_eq!(ports.write(1, &[0x06]), Action::None);
    assert_eq!(selected(), 0x80ff_fffc, "only dwords reach the address register");
    assert_eq!(through(&*ports, 0, 2), [0xff; 2]);
    select(0x8000_0000 | u32::from(device.0) << 8);
    assert_eq!(through(&*ports, 4, 4), [0x34, 0x12, 0x78, 0x56]);
    assert_eq!(through(&*ports, 6, 2), [0x78, 0x56]);
    assert_eq!(through(&*ports, 5, 2), [0x12, 0x78]);
    assert_eq!(through(&*ports, 7, 1), [0x56]);
    assert_eq!(through(&*ports, 6, 4), [0xff; 4], "leaves the port");
    assert_eq!(through(&*ports, 2, 4), [0xff; 4]);
    select(0x8000_0004 | u32::from(device.0) << 8);
    assert_eq!(ports.write(4, &[DECODE as u8]), Action::None);
    assert_eq!(through(&*ports, 4, 2), [DECODE as u8, 0]);
    select(0x8001_0000);
    assert_eq!(through(&*ports, 4, 4), [0x34, 0x12, 0x78, 0x56], "behind the port");
    select(0x8002_0000);
    assert_eq!(through(&*ports, 4, 4), [0xff; 4], "no bus 2");
    select(0);
    assert_eq!(through(&*ports, 4, 4), [0xff; 4]);
}
