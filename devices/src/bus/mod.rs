//! Address spaces that trap: port I/O and memory-mapped I/O, and the devices that answer there.
//!
//! A [`Bus`] is looked up on every exit of every vCPU and changed rarely (a guest that moves a BAR), hence one
//! reader-writer lock, which is never held while a device is called.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, RwLock};

use memory::GuestRange;

use crate::sync;

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
    /// The guest has panicked.
    Panicked,
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

/// One trapping address space.
///
/// An access that does not lie wholly inside one device's window, or is not 1, 2, 4 or 8 bytes long, is unclaimed:
/// it reads as all ones and its writes are dropped, as on a bus where no device answers.
pub struct Bus {
    name: &'static str,
    windows: RwLock<BTreeMap<u64, Window>>,
}

struct Window {
    size: u64,
    device: Arc<dyn BusDevice>,
}

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
    #[error("window of {size:#x} bytes at {start:#x} is empty or leaves the address space")]
    Unusable {
        /// First address.
        start: u64,
        /// Bytes.
        size: u64,
    },
}

impl Bus {
    /// An empty address space; `name` (`mmio`, `pio`) is what logs call it.
    pub const fn new(name: &'static str) -> Self {
        Self { name, windows: RwLock::new(BTreeMap::new()) }
    }

    /// Puts `device` at `window`.
    pub fn insert(&self, window: GuestRange, device: Arc<dyn BusDevice>) -> Result<(), BusError> {
        let GuestRange { start, size } = window;
        let end =
            start.checked_add(size).filter(|end| *end > start).ok_or(BusError::Unusable { start, size })?;
        let mut windows = sync::write(&self.windows);
        // Windows are disjoint, so only the last one that starts before our end can reach into ours.
        if let Some((&taken, before)) = windows.range(..end).next_back() {
            let taken = GuestRange::new(taken, before.size);
            if taken.end() > start {
                return Err(BusError::Overlap { wanted: window, taken });
            }
        }
        windows.insert(start, Window { size, device });
        Ok(())
    }

    /// Takes away the device whose window starts at `start`. An access that is under way still finishes.
    pub fn remove(&self, start: u64) {
        // The device may be dropped here, and must not be while the lock is held.
        let removed = sync::write(&self.windows).remove(&start);
        drop(removed);
    }

    /// Reads; what nobody claims wholly reads as all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((offset, device)) => device.read(offset, data),
            None => {
                tracing::trace!(bus = self.name, address, size = data.len(), "unclaimed read");
                data.fill(0xff);
            }
        }
    }

    /// Writes; what nobody claims wholly is dropped.
    pub fn write(&self, address: u64, data: &[u8]) -> Action {
        match self.find(address, data.len()) {
            Some((offset, device)) => device.write(offset, data),
            None => {
                tracing::trace!(bus = self.name, address, ?data, "unclaimed write");
                Action::None
            }
        }
    }

    fn find(&self, address: u64, length: usize) -> Option<(u64, Arc<dyn BusDevice>)> {
        let length = [1, 2, 4, 8].into_iter().find(|valid| *valid == length)? as u64;
        let windows = sync::read(&self.windows);
        let (start, window) = windows.range(..=address).next_back()?;
        let offset = address - start;
        // Nothing below can wrap: windows end inside the address space and `length` is small.
        let inside = offset < window.size && length <= window.size - offset;
        inside.then(|| (offset, Arc::clone(&window.device)))
    }
}

impl Default for Bus {
    fn default() -> Self {
        Self::new("bus")
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let windows = sync::read(&self.windows);
        let ranges = windows.iter().map(|(start, window)| GuestRange::new(*start, window.size));
        f.debug_struct("Bus").field("name", &self.name).field("windows", &ranges.collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
#[path = "bus_test.rs"]
mod tests;
