//! Lines of hardware that raises its pin past this process, as passed-through functions do with INTx.
//!
//! Such a line is level-triggered, but only its rises are seen, as signals of a [`PinTrigger`]. So the I/O APIC asks
//! every device on the line again whenever the pin can take an interrupt: when the last one has ended, and when the
//! guest unmasks or changes the entry. Devices that still want service raise the pin once more, and nothing is lost,
//! whatever was signalled in between. This is what KVM does with `KVM_IRQFD_FLAG_RESAMPLE` for an I/O APIC of its own.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use super::Ioapic;
use crate::irq::PinTrigger;

/// A device on a [`LevelLine`].
pub trait LevelSource: Send + Sync {
    /// The pin takes interrupts: raise it again if there still is a reason. Called without any lock held, by the
    /// thread of the vCPU that ended the interrupt or wrote the entry; superfluous calls happen.
    fn resample(&self);
}

/// A device's connection to a pin, which other devices may share. Dropping it disconnects the device.
pub struct LevelLine {
    ioapic: Arc<Ioapic>,
    pin: u8,
    id: u64,
}

/// Who is on the lines.
#[derive(Default)]
pub(super) struct Sources {
    next: u64,
    all: Vec<Source>,
}

struct Source {
    id: u64,
    pin: u8,
    device: Weak<dyn LevelSource>,
}

impl LevelLine {
    /// Puts `device` on `pin`. From now on it is asked to resample.
    pub fn attach(ioapic: &Arc<Ioapic>, pin: u8, device: Weak<dyn LevelSource>) -> Self {
        let id = ioapic.state().sources.add(pin, device);
        Self { ioapic: Arc::clone(ioapic), pin, id }
    }

    /// The pin, which is also the GSI of a machine with one I/O APIC.
    pub fn pin(&self) -> u8 {
        self.pin
    }

    /// An eventfd that raises the pin.
    pub fn trigger(&self) -> io::Result<Box<dyn PinTrigger>> {
        let controller = self.ioapic.state().controller.clone();
        controller.pin_trigger(self.pin)
    }

    /// Whether the pin is unmasked.
    pub fn is_open(&self) -> bool {
        self.ioapic.state().is_open(self.pin)
    }
}

impl Drop for LevelLine {
    fn drop(&mut self) {
        self.ioapic.state().sources.remove(self.id);
    }
}

impl fmt::Debug for LevelLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelLine").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl Sources {
    fn add(&mut self, pin: u8, device: Weak<dyn LevelSource>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.all.push(Source { id, pin, device });
        id
    }

    fn remove(&mut self, id: u64) {
        self.all.retain(|source| source.id != id);
    }

    /// Those on the pins of which `pins` has a bit set.
    pub(super) fn on(&self, pins: u32) -> Vec<Arc<dyn LevelSource>> {
        let concerned = self.all.iter().filter(|source| pins >> source.pin & 1 != 0);
        concerned.filter_map(|source| source.device.upgrade()).collect()
    }
}

#[cfg(test)]
#[path = "level_test.rs"]
mod tests;
