//! Address spaces that trap: port I/O and memory-mapped I/O, and the devices that answer there.
//!
//! A [`Bus`] is looked up on every exit of every vCPU and changed rarely (a guest that moves a BAR). Hence who looks takes no lock and
//! waits for nobody: it reads a list that never changes, and whoever changes something puts another list in its place.

use std::fmt;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
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
    /// Disjoint, in the order of their addresses.
    windows: ArcSwap<Vec<Window>>,
    /// Held by who changes them.
    changes: Mutex<()>,
}

#[derive(Clone)]
struct Window {
    range: GuestRange,
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
    pub fn new(name: &'static str) -> Self {
        Self { name, windows: ArcSwap::default(), changes: Mutex::new(()) }
    }

    /// Puts `device` at `window`.
    pub fn insert(&self, window: GuestRange, device: Arc<dyn BusDevice>) -> Result<(), BusError> {
        let GuestRange { start, size } = window;
        let end =
            start.checked_add(size).filter(|end| *end > start).ok_or(BusError::Unusable { start, size })?;
        let _changing = sync::lock(&self.changes);
        let mut windows = Vec::clone(&self.windows.load());
        // Windows are disjoint, so only the last one that starts before our end can reach into ours.
        let place = windows.partition_point(|other| other.range.start < end);
        match place.checked_sub(1).and_then(|before| windows.get(before)) {
            Some(before) if before.range.end() > start => {
                Err(BusError::Overlap { wanted: window, taken: before.range })
            }
            _ => {
                windows.insert(place, Window { range: window, device });
                self.windows.store(Arc::new(windows));
                Ok(())
            }
        }
    }

    /// Takes away the device whose window starts at `start`. An access that is under way still finishes.
    pub fn remove(&self, start: u64) {
        let changing = sync::lock(&self.changes);
        let mut windows = Vec::clone(&self.windows.load());
        windows.retain(|window| window.range.start != start);
        let before = self.windows.swap(Arc::new(windows));
        // The device may be dropped with what it was in, and must not be while the lock is held.
        drop(changing);
        drop(before);
    }

    /// Reads; what nobody claims wholly reads as all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match find(&self.windows.load(), address, data.len()) {
            Some((offset, device)) => device.read(offset, data),
            None => {
                tracing::trace!(bus = self.name, address, size = data.len(), "unclaimed read");
                data.fill(0xff);
            }
        }
    }

    /// Writes; what nobody claims wholly is dropped.
    pub fn write(&self, address: u64, data: &[u8]) -> Action {
        match find(&self.windows.load(), address, data.len()) {
            Some((offset, device)) => device.write(offset, data),
            None => {
                tracing::trace!(bus = self.name, address, ?data, "unclaimed write");
                Action::None
            }
        }
    }
}

/// The device that an access lies wholly inside of, and where in it.
fn find(windows: &[Window], address: u64, length: usize) -> Option<(u64, &dyn BusDevice)> {
    let length = [1, 2, 4, 8].into_iter().find(|valid| *valid == length)? as u64;
    let after = windows.partition_point(|window| window.range.start <= address);
    let Window { range, device } = windows.get(after.checked_sub(1)?)?;
    let offset = address - range.start;
    // Nothing below can wrap: windows end inside the address space and `length` is small.
    let inside = offset < range.size && length <= range.size - offset;
    inside.then_some((offset, &**device))
}

impl Default for Bus {
    fn default() -> Self {
        Self::new("bus")
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let windows = self.windows.load();
        let ranges: Vec<GuestRange> = windows.iter().map(|window| window.range).collect();
        f.debug_struct("Bus").field("name", &self.name).field("windows", &ranges).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "bus_test.rs"]
mod tests;
