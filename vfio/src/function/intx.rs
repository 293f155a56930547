//! INTx of a passed-through device, level-triggered: the device's line becomes the guest's I/O APIC pin.
//!
//! VFIO masks the device's INTx when it comes, and signals an eventfd, which KVM turns into the pin's message. When the
//! guest has handled it the I/O APIC says so ([`LevelSource`]); VFIO unmasks, and signals again if the device still
//! asserts it. Nothing of this is set up before the guest first unmasks the pin, and all of it is gone while the guest uses
//! MSI or MSI-X, which exclude INTx (PCIe base 6.0 §6.1.4.3).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use devices::ioapic::{Ioapic, LevelLine, LevelSource};
use devices::irq::PinTrigger;
use devices::pci::{InterruptPin, PciAddress};
use tracing::{debug, warn};
use vmm_sys_util::eventfd::EventFd;

use super::command::Command;

/// The INTx of a device, as VFIO has it.
pub trait IntxLine: Send + Sync {
    /// Signals `trigger` from now on when the device asserts its line, masked each time.
    fn connect(&self, trigger: &EventFd) -> io::Result<()>;
    /// Signals nothing any more.
    fn disconnect(&self) -> io::Result<()>;
    /// Lets the device assert its line again; signals at once if it still does.
    fn unmask(&self) -> io::Result<()>;
}

/// The INTx of one function.
pub(crate) struct Intx {
    address: PciAddress,
    pin: InterruptPin,
    device: Arc<dyn IntxLine>,
    command: Arc<Command>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The pin in the machine, for one run of the guest.
    line: Option<LevelLine>,
    /// What KVM listens to, while the device is connected.
    trigger: Option<Box<dyn PinTrigger>>,
    /// The guest uses MSI or MSI-X.
    excluded: bool,
    complained: bool,
}

impl Intx {
    /// INTx as `pin`, led nowhere yet.
    pub(crate) fn new(
        address: PciAddress,
        pin: InterruptPin,
        device: Arc<dyn IntxLine>,
        command: Arc<Command>,
    ) -> Arc<Self> {
        Arc::new(Self { address, pin, device, command, state: Mutex::default() })
    }

    /// Its interrupt pin.
    pub(crate) fn pin(&self) -> InterruptPin {
        self.pin
    }

    /// Leads it to a pin of the machine until [`Intx::reset`].
    pub(crate) fn attach(self: &Arc<Self>, ioapic: &Arc<Ioapic>, pin: u8) {
        let source: Arc<dyn LevelSource> = self.clone();
        let line = LevelLine::attach(ioapic, pin, Arc::downgrade(&source) as Weak<dyn LevelSource>);
        self.state().line = Some(line);
    }

    /// The guest turned MSI or MSI-X on, or both off.
    pub(crate) fn exclude(&self, excluded: bool) {
        let mut state = self.state();
        if std::mem::replace(&mut state.excluded, excluded) == excluded {
            return;
        }
        if excluded {
            self.disconnect(&mut state);
        } else if state.line.as_ref().is_some_and(LevelLine::is_open) {
            self.connect(&mut state);
        }
    }

    /// Disconnected from the device and from the machine.
    pub(crate) fn reset(&self) {
        let mut state = self.state();
        self.disconnect(&mut state);
        state.line = None;
        state.excluded = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, state: &mut State) {
        let Some(line) = &state.line else { return };
        let connected = line.trigger().and_then(|trigger| {
            self.device.connect(trigger.eventfd())?;
            Ok(trigger)
        });
        let (address, pin) = (self.address, line.pin());
        match connected {
            Ok(trigger) => {
                debug!(%address, pin, "INTx connected");
                state.trigger = Some(trigger);
                // Not before VFIO has someone to signal.
                self.command.set_intx(true);
            }
            Err(error) if !std::mem::replace(&mut state.complained, true) => {
                warn!(
                    %address, pin, %error,
                    "INTx stays silent: the host cannot take it (a device that cannot mask its own interrupt must \
                     not share its host interrupt with others)"
                );
            }
            Err(_) => {}
        }
    }

    fn disconnect(&self, state: &mut State) {
        if state.trigger.is_none() {
            return;
        }
        self.command.set_intx(false);
        if let Err(error) = self.device.disconnect() {
            warn!(address = %self.address, %error, "cannot disable INTx");
        }
        state.trigger = None;
    }
}

impl LevelSource for Intx {
    fn resample(&self) {
        let mut state = self.state();
        if state.excluded {
            return;
        }
        if state.trigger.is_none() {
            return self.connect(&mut state);
        }
        if let Err(error) = self.device.unmask() {
            debug!(address = %self.address, %error, "cannot unmask INTx");
        }
    }
}

impl Drop for Intx {
    fn drop(&mut self) {
        self.reset();
    }
}

#[cfg(test)]
#[path = "intx_test.rs"]
mod tests;
