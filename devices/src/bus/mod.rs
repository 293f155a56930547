//! Address spaces that trap: port I/O and memory-mapped I/O, and the devices that answer there.

use std::sync::Arc;

use memory::GuestRange;

/// What a guest's write asks of the machine. Effects are returned, never called back.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing beyond the device itself.
    None,
    /// Power the machine off (ACPI S5).
    PowerOff,
    /// Reset the machine.
    Reset,
    /// Leave with this value written to the debug-exit port.
    DebugExit(u32),
}

/// A device on a [`Bus`].
pub trait BusDevice: Send + Sync {
    /// Reads `data.len()` bytes (1, 2, 4 or 8) at `offset` from the start of the device's window. Fills all of `data`.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Writes `data` (1, 2, 4 or 8 bytes) at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> Action;
}

/// One trapping address space. Placeholder for the real one.
#[derive(Default)]
pub struct Bus {}

/// Why a device could not be put on a bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Another device answers there.
    #[error("{wanted} overlaps {taken}")]
    Overlap {
        /// The window asked for.
        wanted: GuestRange,
        /// The window that is in the way.
        taken: GuestRange,
    },
    /// Empty, or past the end of the address space.
    #[error("{0} is not a usable window")]
    Unusable(GuestRange),
}

impl Bus {
    /// Puts `device` at `window`.
    pub fn insert(&self, window: GuestRange, device: Arc<dyn BusDevice>) -> Result<(), BusError> {
        let _ = (window, device);
        todo!()
    }
    /// Takes away the device whose window starts at `start`.
    pub fn remove(&self, start: u64) {
        let _ = start;
        todo!()
    }
    /// Reads; what nobody claims wholly reads as all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        let _ = (address, data);
        todo!()
    }
    /// Writes; what nobody claims wholly is dropped.
    pub fn write(&self, address: u64, data: &[u8]) -> Action {
        let _ = (address, data);
        todo!()
    }
}
