use proptest::prelude::*;

use super::*;
use crate::function::capability;
use crate::function::fixture::{Config, Event, FakeDevice, e1000e, nvme};
use std::sync::Arc;

fn view(config: Config) -> (Space, Arc<FakeDevice>) {
    let (standard, extended) = (capability::standard(&config.0), capability::extended(&config.0));
    let space = Space::new(&config.0, &standard, &extended);
    (space, FakeDevice::new(config, [0; 6]))
}

fn read(space: &Space, device: &FakeDevice, offset: u16) -> u32 {
    let mut data = [0; 4];
    space.read(device, offset, &mut data);
    u32::from_le_bytes(data)
}

/// The whole view, as bytes.
fn dump(space: &Space, device: &FakeDevice) -> Vec<u8> {
    (0..4096).step_by(4).flat_map(|offset| read(space, device, offset).to_le_bytes()).collect()
}

#[test]
fn the_header_is_ours() {
    let (space, device) = view(nvme());
    assert_eq!(read(&space, &device, 0x00), 0xa808_144d);
    // Nothing enabled yet; the device's status with the list, without INTx.
    assert_eq!(read(&space, &device, 0x04), 0x0010_0000);
    assert_eq!(read(&space, &device, 0x08), 0x0108_0202);
    // One function, no cache line yet.
    assert_eq!(read(&space, &device, 0x0c), 0);
    assert_eq!(read(&space, &device, 0x2c), 0x0001_8086);
    assert_eq!(read(&space, &device, 0x30), 0);
    assert_eq!(read(&space, &device, 0x34), 0x40);
    assert_eq!(read(&space, &device, 0x3c), 0x0807_0000);
}

#[test]
fn interrupt_line_and_command_keep_what_is_written() {
    let (mut space, device) = view(nvme());
    space.write(&*device, 0x3c, &[0xff, 0xff]);
    space.write(&*device, 0x04, &[0xff, 0xff]);
    assert_eq!(read(&space, &device, 0x3c), 0x0807_00ff);
    assert_eq!(space.command(), 0x0547);
    assert_eq!(device.take_events(), []);
    space.reset();
    assert_eq!((space.command(), read(&space, &device, 0x3c)), (0, 0x0807_0000));
}

#[test]
fn errors_are_cleared_in_the_device() {
    let (mut space, device) = view(nvme());
    space.write(&*device, 0x04, &[0x06, 0x00, 0x00, 0xf9]);
    assert_eq!(device.take_events(), [Event::Config(0x06, vec![0x00, 0xf9])]);
    assert_eq!(space.command(), 0x06);
}

#[test]
fn lists_skip_what_is_hidden() {
    let config = Config::new(1, 2, 0x03_0000)
        .list(&[
            (0x40, 0x03, &[1, 2, 3, 4, 5, 6]),
            (0x50, 0x01, &[0; 6]),
            (0x60, 0x13, &[0; 4]),
            (0x70, 0x10, &[2]),
        ])
        .extended(&[
            (0x100, 0x0f, 1),
            (0x140, 0x03, 1),
            (0x150, 0x10, 1),
            (0x200, 0x0b, 1),
            (0x300, 0x15, 1),
        ]);
    let (space, device) = view(config);
    let seen = dump(&space, &device);
    assert_eq!(
        capability::standard(&seen).iter().map(|c| (c.offset, c.id)).collect::<Vec<_>>(),
        [(0x50, 1), (0x70, 0x10)]
    );
    let extended: Vec<_> = capability::extended(&seen).iter().map(|c| (c.offset, c.id)).collect();
    assert_eq!(extended, [(0x100, 0), (0x140, 3), (0x200, 0x0b)]);
    // Nothing of the hidden ones is left, not even at their old place.
    assert_eq!(&seen[0x40..0x48], &[0; 8]);
    assert_eq!(&seen[0x104..0x10c], &[0; 8]);
    assert_eq!(&seen[0x144..0x14c], &[0x5a; 8]);
}

#[test]
fn a_device_without_visible_extended_capabilities_has_an_empty_list() {
    let (space, device) = view(Config::new(1, 2, 3).extended(&[(0x100, 0x10, 1)]));
    assert_eq!(read(&space, &device, 0x100), 0);
    let (space, device) = view(Config::new(1, 2, 3));
    assert_eq!((read(&space, &device, 0x100), read(&space, &device, 0x34)), (0, 0));
    assert_eq!(read(&space, &device, 0x04) >> 16, 0);
}

#[test]
fn a_conventional_device_does_not_answer_beyond_256_bytes() {
    let mut config = Config::new(1, 2, 3);
    config.0.truncate(0x100);
    let (mut space, device) = view(config);
    assert_eq!(read(&space, &device, 0x100), u32::MAX);
    assert_eq!(read(&space, &device, 0xffc), u32::MAX);
    space.write(&*device, 0x100, &[0; 4]);
    assert_eq!(device.take_events(), []);
}

#[test]
fn writes_reach_only_what_is_passed_through() {
    let (mut space, device) = view(e1000e());
    // Device-specific registers, power management and AER; not the links, MSI or the serial number.
    for offset in [0x44, 0xcc, 0x104, 0xe8] {
        space.write(&*device, offset, &[1, 2, 3, 4]);
        assert_eq!(device.take_events(), [Event::Config(offset, vec![1, 2, 3, 4])]);
    }
    space.write(&*device, 0xc8, &[1, 2, 3, 4]);
    assert_eq!(device.take_events(), [Event::Config(0xca, vec![3, 4])]);
    for offset in [0x00, 0x08, 0x10, 0x30, 0xd0, 0xd4, 0xa0, 0x100, 0x140, 0x144] {
        space.write(&*device, offset, &[0xff; 4]);
        assert_eq!(device.take_events(), [], "{offset:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_configuration_space_breaks_it(
        config in prop_oneof![
            proptest::collection::vec(any::<u8>(), 256..=256),
            proptest::collection::vec(any::<u8>(), 4096..=4096),
        ],
        accesses in proptest::collection::vec((0u16..4096, any::<u32>()), 0..64),
    ) {
        let (mut space, device) = view(Config(config));
        for (offset, value) in accesses {
            let length = [1, 2, 4][value as usize % 3].min(4096 - usize::from(offset));
            if usize::from(offset) + length <= device.config.lock().unwrap().len() {
                space.write(&*device, offset, &value.to_le_bytes()[..length]);
            }
        }
        let config = device.config.lock().unwrap().clone();
        if config.len() == 4096 {
            let seen = dump(&space, &device);
            let visible = |found: Vec<Capability>| found.into_iter().all(|c| c.is_visible() || c.id == 0);
            prop_assert!(visible(capability::standard(&seen)));
            prop_assert_eq!(seen[0x3d], 0);
            prop_assert_eq!(seen[0x0e] & 0x80, 0);
        }
    }
}
