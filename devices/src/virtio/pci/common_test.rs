use proptest::prelude::*;

use super::*;

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const RESETTABLE: u64 = 1 << VIRTIO_F_RING_RESET;

fn registers() -> Registers {
    Registers::new(RESETTABLE | 0b101, &[256, 64])
}

fn accept(registers: &mut Registers, features: u64) {
    for half in [0, 1_u32] {
        assert_eq!(registers.write(DRIVER_FEATURE_SELECT, &half.to_le_bytes()), Effect::None);
        let features = (features >> (32 * half)) as u32;
        assert_eq!(registers.write(DRIVER_FEATURE, &features.to_le_bytes()), Effect::None);
    }
}

fn byte(registers: &Registers, offset: u64) -> u8 {
    let mut data = [0];
    registers.read(offset, &mut data, false, 0);
    data[0]
}

fn word(registers: &Registers, offset: u64) -> u16 {
    let mut data = [0; 2];
    registers.read(offset, &mut data, false, 0);
    u16::from_le_bytes(data)
}

#[test]
fn features_that_were_not_offered_are_refused_and_so_are_old_drivers() {
    for (features, good) in
        [(VERSION_1, true), (VERSION_1 | 0b101, true), (0b101, false), (VERSION_1 | 0b10, false)]
    {
        let mut registers = registers();
        accept(&mut registers, features);
        registers.write(STATUS, &[0xb]);
        assert_eq!(byte(&registers, STATUS) & FEATURES_OK != 0, good, "{features:#x}");
        assert_eq!(registers.write(STATUS, &[0xf]) == Effect::Activate, good);
        accept(&mut registers, 0);
        assert_eq!(registers.accepted() == 0, !good, "features change after they were agreed on");
    }
}

#[test]
fn a_queue_keeps_its_place_once_it_is_enabled() {
    let mut registers = registers();
    accept(&mut registers, VERSION_1 | RESETTABLE);
    registers.write(QUEUE_SELECT, &1_u16.to_le_bytes());
    registers.write(QUEUE_ENABLE, &1_u16.to_le_bytes());
    assert_eq!(word(&registers, QUEUE_ENABLE), 0, "before FEATURES_OK");
    registers.write(STATUS, &[0xb]);
    for size in [65_u16, 0] {
        registers.write(QUEUE_SIZE, &size.to_le_bytes());
        assert_eq!(word(&registers, QUEUE_SIZE), 64);
    }
    registers.write(QUEUE_SIZE, &32_u16.to_le_bytes());
    registers.write(QUEUE_DESCRIPTORS, &0x1_2345_6000_u64.to_le_bytes());
    registers.write(QUEUE_DRIVER + 4, &7_u32.to_le_bytes());
    registers.write(QUEUE_ENABLE, &1_u16.to_le_bytes());
    registers.write(QUEUE_DESCRIPTORS, &0_u32.to_le_bytes());
    let at = RingAddresses { size: 32, descriptors: 0x1_2345_6000, driver: 7 << 32, device: 0 };
    assert_eq!(registers.enabled().collect::<Vec<_>>(), [(1, at)]);
    assert_eq!(registers.write(STATUS, &[0xf]), Effect::Activate);
    assert_eq!(registers.write(STATUS, &[0xf]), Effect::None);

    assert_eq!(registers.write(QUEUE_RESET, &1_u16.to_le_bytes()), Effect::StopQueue(1));
    assert_eq!((word(&registers, QUEUE_ENABLE), word(&registers, QUEUE_SIZE)), (0, 64));
    assert_eq!(registers.write(QUEUE_ENABLE, &1_u16.to_le_bytes()), Effect::StartQueue(1));
    assert_eq!(registers.write(STATUS, &[0]), Effect::Reset);
    registers.reset();
    assert_eq!((byte(&registers, STATUS), registers.enabled().count()), (0, 0));
}

#[test]
fn a_queue_is_not_reset_by_a_driver_that_did_not_ask_for_that() {
    let mut registers = registers();
    accept(&mut registers, VERSION_1);
    registers.write(STATUS, &[0xb]);
    registers.write(QUEUE_ENABLE, &1_u16.to_le_bytes());
    assert_eq!(registers.write(QUEUE_RESET, &1_u16.to_le_bytes()), Effect::None);
    assert_eq!(word(&registers, QUEUE_ENABLE), 1);
}

#[test]
fn there_is_nothing_behind_the_last_queue() {
    let mut registers = registers();
    registers.write(QUEUE_SELECT, &2_u16.to_le_bytes());
    assert_eq!((word(&registers, QUEUE_SIZE), word(&registers, QUEUE_VECTOR)), (0, NO_VECTOR));
    assert_eq!(registers.write(QUEUE_VECTOR, &0_u16.to_le_bytes()), Effect::None);
    assert_eq!(word(&registers, NUM_QUEUES as u64), 2);
}

proptest! {
    /// Whatever is written, a device is only activated with features that it offered.
    #[test]
    fn garbage_activates_nothing_that_was_not_offered(
        writes in proptest::collection::vec((0_u64..0x48, proptest::collection::vec(any::<u8>(), 1..9)), 0..200),
    ) {
        let mut registers = registers();
        for (offset, data) in writes {
            if registers.write(offset, &data) == Effect::Activate {
                prop_assert_eq!(registers.accepted() & !(VERSION_1 | RESETTABLE | 0b101), 0);
                prop_assert!(registers.accepted() & VERSION_1 != 0);
            }
            let mut data = vec![0; data.len()];
            registers.read(offset, &mut data, true, 3);
        }
        prop_assert!(registers.enabled().all(|(index, at)| index < 2 && at.size <= 256));
    }
}
