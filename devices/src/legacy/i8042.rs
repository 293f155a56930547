//! The one thing of the i8042 keyboard controller that is left: pulsing the CPU's reset line (IBM PC/AT).
//!
//! Linux falls back to it when the ACPI reset register is not to be had (arch/x86/kernel/reboot.c).

use crate::{Action, BusDevice};

/// The command and status port.
pub const PORT: u64 = 0x64;
/// Number of ports.
pub const PORTS: u64 = 1;

const PULSE_RESET: u8 = 0xfe;

/// The command port. Its status reads as zero: ready for a command, no data, no keyboard.
#[derive(Debug, Default)]
pub struct KeyboardReset;

impl BusDevice for KeyboardReset {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _: u64, data: &[u8]) -> Action {
        if data.first() == Some(&PULSE_RESET) { Action::Reset } else { Action::None }
    }
}
