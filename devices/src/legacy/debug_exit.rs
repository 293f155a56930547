//! The port a test guest leaves through with a value, as QEMU's `isa-debug-exit` (kvm-unit-tests, lib/x86/io.c).

use crate::{Action, BusDevice};

/// The port QEMU's users expect it at.
pub const PORT: u64 = 0xf4;
/// Number of ports.
pub const PORTS: u64 = 4;

/// Ends the machine with the value written, of any width. Reads as zero.
#[derive(Debug, Default)]
pub struct DebugExit;

impl BusDevice for DebugExit {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _: u64, data: &[u8]) -> Action {
        let value = data.iter().take(4).rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        Action::DebugExit(value)
    }
}
