use super::acpi::{RESET_VALUE, SLEEP_CONTROL, SLEEP_STATUS};
use super::*;
use crate::{Action, BusDevice};

fn reads_zero(device: &dyn BusDevice) -> bool {
    let mut data = [0xff];
    device.read(0, &mut data);
    data == [0]
}

#[test]
fn a_debug_exit_carries_its_value() {
    assert_eq!(DebugExit.write(0, &[0x10]), Action::DebugExit(0x10));
    assert_eq!(DebugExit.write(0, &[1, 2, 3, 4]), Action::DebugExit(0x0403_0201));
    assert_eq!(DebugExit.write(2, &[1, 2, 3, 4, 5, 6, 7, 8]), Action::DebugExit(0x0403_0201));
    assert!(reads_zero(&DebugExit));
}

#[test]
fn only_s5_powers_off() {
    let control = |value| SleepRegisters.write(SLEEP_CONTROL, &[value]);
    assert_eq!(control(5 << 2 | 1 << 5), Action::PowerOff);
    assert_eq!(control(!(1 << 3)), Action::PowerOff, "reserved bits are ignored");
    for value in [5 << 2, 1 << 5, 3 << 2 | 1 << 5, 7 << 2 | 1 << 5, 0] {
        assert_eq!(control(value), Action::None, "{value:#x}");
    }
    assert_eq!(SleepRegisters.write(SLEEP_STATUS, &[5 << 2 | 1 << 5]), Action::None);
    assert!(reads_zero(&SleepRegisters));
}

#[test]
fn resets_take_their_value() {
    assert_eq!(ResetRegister.write(0, &[RESET_VALUE]), Action::Reset);
    assert_eq!(ResetRegister.write(0, &[RESET_VALUE - 1]), Action::None);
    assert_eq!(KeyboardReset.write(0, &[0xfe]), Action::Reset);
    assert_eq!(KeyboardReset.write(0, &[0xd1]), Action::None);
    assert!(reads_zero(&ResetRegister) && reads_zero(&KeyboardReset));
}
