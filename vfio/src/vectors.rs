//! Message-signalled interrupts of the hardware, wired to the eventfds the guest's vectors are raised by.
//!
//! The host allocates a vector when the guest first unmasks it, so that a device with 2048 of them costs what it uses.
//! Vectors that the guest unmasks together are wired together.
//! Where the kernel can grow the set (MSI-X since 6.5, `VFIO_IRQ_INFO_NORESIZE` absent) a vector is just added. Where
//! it cannot, all are disabled and a set twice as large is enabled; what a device raises in between is lost, so all
//! vectors are then raised once: a spurious interrupt is harmless, a lost one is not.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use devices::pci::VectorBackend;
use tracing::warn;
use vmm_sys_util::eventfd::EventFd;

/// `VFIO_DEVICE_SET_IRQS` on one interrupt type of a device.
pub(crate) trait SetIrqs: Send + Sync {
    /// How many vectors the device has.
    fn count(&self) -> u32;
    /// Whether vectors can be added while others are enabled.
    fn resizable(&self) -> bool;
    /// Wires vectors `start..`, -1 for none; enables as many as that takes if none are enabled.
    fn set(&self, start: u32, triggers: &[RawFd]) -> io::Result<()>;
    /// Disables all.
    fn disable(&self) -> io::Result<()>;
    /// The device, for messages.
    fn owner(&self) -> String;
}

/// The vectors of one interrupt type.
pub(crate) struct Vectors<I> {
    irqs: I,
    wired: Mutex<Wired>,
}

#[derive(Default)]
struct Wired {
    /// How many vectors the host has enabled.
    enabled: u32,
    /// What they raise; kept where the set cannot grow, and so has to be built anew.
    triggers: BTreeMap<u32, EventFd>,
}

impl<I: SetIrqs> Vectors<I> {
    /// All of them disabled.
    pub(crate) fn new(irqs: I) -> Self {
        Self { irqs, wired: Mutex::default() }
    }

    fn wired(&self) -> MutexGuard<'_, Wired> {
        self.wired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enables one vector, unless some are, and wires none. The first call of all enables all vectors up to the last it
    /// names: let that be one.
    fn begin(&self, wired: &mut Wired) -> io::Result<()> {
        if wired.enabled == 0 {
            self.irqs.set(0, &[-1])?;
            wired.enabled = 1;
        }
        Ok(())
    }

    /// Wires vectors, each run of consecutive ones with one call.
    fn set(&self, vectors: &[(u16, &EventFd)]) -> io::Result<()> {
        for run in vectors.chunk_by(|(one, _), (next, _)| u32::from(*one) + 1 == u32::from(*next)) {
            let triggers: Vec<RawFd> = run.iter().map(|(_, trigger)| trigger.as_raw_fd()).collect();
            let start = run.first().map_or(0, |(vector, _)| u32::from(*vector));
            self.irqs.set(start, &triggers)?;
        }
        Ok(())
    }

    /// Enables so many vectors that `vector` is one of them.
    fn enlarge(&self, wired: &mut Wired, vector: u32) -> io::Result<()> {
        let before = wired.enabled;
        let size = (vector + 1).next_power_of_two().min(self.irqs.count());
        if before != 0 {
            wired.enabled = 0;
            self.irqs.disable()?;
        }
        let result = self.enable_set(wired, size);
        if result.is_err() && before != 0 {
            // The host has no more: keep what there was.
            self.enable_set(wired, before)?;
        }
        for (other, trigger) in wired.triggers.range(..before) {
            if let Err(error) = trigger.write(1) {
                warn!(vector = other, %error, "an interrupt may have been lost");
            }
        }
        result
    }

    fn enable_set(&self, wired: &mut Wired, size: u32) -> io::Result<()> {
        let trigger = |vector| wired.triggers.get(&vector).map_or(-1, AsRawFd::as_raw_fd);
        let triggers: Vec<RawFd> = (0..size).map(trigger).collect();
        self.irqs.set(0, &triggers)?;
        wired.enabled = size;
        Ok(())
    }
}

impl<I: SetIrqs> VectorBackend for Vectors<I> {
    /// The hardware's capability is on when the guest's is: devices and their firmware look at it, as an emulated NVMe
    /// does when its controller is enabled.
    fn enable(&self) -> io::Result<()> {
        self.begin(&mut self.wired())
    }

    fn connect(&self, vectors: &[(u16, &EventFd)]) -> io::Result<()> {
        let Some((last, _)) = vectors.last() else { return Ok(()) };
        if u32::from(*last) >= self.irqs.count() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut wired = self.wired();
        let wired = &mut *wired;
        if self.irqs.resizable() {
            self.begin(wired)?;
            return self.set(vectors);
        }
        for (vector, trigger) in vectors {
            wired.triggers.insert(u32::from(*vector), trigger.try_clone()?);
        }
        let result = if u32::from(*last) < wired.enabled {
            self.set(vectors)
        } else {
            self.enlarge(wired, u32::from(*last))
        };
        if result.is_err() {
            vectors.iter().for_each(|(vector, _)| drop(wired.triggers.remove(&u32::from(*vector))));
        }
        result
    }

    fn disconnect_all(&self) {
        let mut wired = self.wired();
        wired.triggers.clear();
        if wired.enabled != 0
            && let Err(error) = self.irqs.disable()
        {
            warn!(%error, "cannot disable a device's interrupts");
        }
        wired.enabled = 0;
    }

    fn owner(&self) -> String {
        self.irqs.owner()
    }
}

#[cfg(test)]
#[path = "vectors_test.rs"]
mod tests;
