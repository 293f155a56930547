//! Power-off and reset as the FADT of a hardware-reduced platform announces them (ACPI 6.5 §4.8.3.6 and §4.8.3.7).

use crate::{Action, BusDevice};

/// The SLP_TYP that means S5, to be given by `\_S5` in the DSDT.
pub const SLEEP_TYPE_S5: u8 = 5;
/// The RESET_VALUE of the FADT.
pub const RESET_VALUE: u8 = 0x06;
/// Bytes of [`SleepRegisters`].
pub const SLEEP_REGISTERS_SIZE: u64 = 2;
/// Offset of SLEEP_CONTROL_REG.
pub const SLEEP_CONTROL: u64 = 0;
/// Offset of SLEEP_STATUS_REG.
pub const SLEEP_STATUS: u64 = 1;
/// Bytes of [`ResetRegister`].
pub const RESET_REGISTER_SIZE: u64 = 1;

const SLP_EN: u8 = 1 << 5;
const SLP_TYP_SHIFT: u8 = 2;
const SLP_TYP_MASK: u8 = 0b111;

/// The sleep control and status registers, side by side. Only S5 is offered: nothing ever wakes.
#[derive(Debug, Default)]
pub struct SleepRegisters;

impl BusDevice for SleepRegisters {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        match (offset, data) {
            (SLEEP_CONTROL, [control, ..])
                if control & SLP_EN != 0 && control >> SLP_TYP_SHIFT & SLP_TYP_MASK == SLEEP_TYPE_S5 =>
            {
                Action::PowerOff
            }
            _ => Action::None,
        }
    }
}

/// The reset register: resets the machine when [`RESET_VALUE`] is written.
#[derive(Debug, Default)]
pub struct ResetRegister;

impl BusDevice for ResetRegister {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        match (offset, data) {
            (0, [RESET_VALUE, ..]) => Action::Reset,
            _ => Action::None,
        }
    }
}
