//! The I/O APIC (Intel 82093AA, version 0x20 with its EOI register) in front of KVM's split irqchip.
//!
//! Pins become messages to the local APICs in the kernel. Delivery is [`InterruptController::signal_msi`]; besides, the
//! hypervisor is told each pin's message, so that it reports the end of level-triggered interrupts to
//! [`Ioapic::end_of_interrupt`]. Lines are asserted or not: the polarity bit is kept for the guest and has no effect.
//! Emulated devices have an [`IrqLine`], hardware has a [`LevelLine`].

mod entry;
mod level;
mod line;

use std::sync::{Arc, Mutex, MutexGuard};

use crate::irq::{InterruptController, MsiMessage};
use crate::sync::lock;
use crate::{Action, BusDevice};

pub use entry::PINS;
use entry::RedirectionEntry;
use level::Sources;
pub use level::{LevelLine, LevelSource};
pub use line::IrqLine;

/// Bytes of the register window.
pub const WINDOW_SIZE: u64 = 0x1000;

const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
const EOI: u64 = 0x40;

const REGISTER_ID: u8 = 0;
const REGISTER_VERSION: u8 = 1;
const REGISTER_ARBITRATION: u8 = 2;
const FIRST_REDIRECTION: u8 = 0x10;

const VERSION: u32 = 0x20 | (PINS as u32 - 1) << 16;
const ID_MASK: u32 = 0x0f00_0000;

/// An I/O APIC with 24 pins. As a [`BusDevice`] it is its register window.
pub struct Ioapic {
    state: Mutex<State>,
}

struct State {
    controller: Arc<dyn InterruptController>,
    select: u8,
    id: u32,
    pins: [Pin; PINS as usize],
    sources: Sources,
    /// A bit for each pin whose sources are to be asked again.
    resample: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pin {
    entry: RedirectionEntry,
    asserted: bool,
    /// The message the hypervisor was last told.
    route: Option<MsiMessage>,
    complained: bool,
}

impl Ioapic {
    /// All pins masked, as after reset.
    pub fn new(controller: Arc<dyn InterruptController>) -> Arc<Self> {
        let state = State {
            controller,
            select: 0,
            id: 0,
            pins: [Pin::default(); PINS as usize],
            sources: Sources::default(),
            resample: 0,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A handle for the device on `pin`. A pin that does not exist leads nowhere.
    pub fn line(self: &Arc<Self>, pin: u8) -> IrqLine {
        IrqLine::new(Arc::clone(self), pin)
    }

    /// Asserts or deasserts a pin.
    pub fn set_line(&self, pin: u8, asserted: bool) {
        self.state().set_line(pin, asserted);
    }

    /// Asserts a pin and deasserts it again: one edge.
    pub fn pulse(&self, pin: u8) {
        let mut state = self.state();
        state.set_line(pin, true);
        state.set_line(pin, false);
    }

    /// Whether a pin is masked. One that does not exist is.
    pub fn is_masked(&self, pin: u8) -> bool {
        lock(&self.state).pins.get(usize::from(pin)).is_none_or(|pin| pin.entry.is_masked())
    }

    /// A local APIC finished a level-triggered interrupt. Pins with this vector that are still asserted are
    /// delivered again.
    pub fn end_of_interrupt(&self, vector: u8) {
        let mut state = self.state();
        state.end_of_interrupt(vector);
        resample(state);
    }

    /// All entries masked. Lines stay as their devices hold them.
    pub fn reset(&self) {
        let mut state = self.state();
        (state.select, state.id) = (0, 0);
        for pin in 0..PINS {
            state.change(pin, |entry| *entry = RedirectionEntry::default());
        }
    }
}

/// Asks those to resample whose pins have come to take interrupts, with the lock let go: they may raise the pin.
fn resample(mut state: MutexGuard<'_, State>) {
    let pins = std::mem::take(&mut state.resample);
    let sources = if pins == 0 { Vec::new() } else { state.sources.on(pins) };
    drop(state);
    sources.iter().for_each(|source| source.resample());
}

impl State {
    fn is_open(&self, pin: u8) -> bool {
        self.pins.get(usize::from(pin)).is_some_and(|pin| !pin.entry.is_masked())
    }

    fn set_line(&mut self, number: u8, asserted: bool) {
        let Some(pin) = self.pins.get_mut(usize::from(number)) else { return };
        let before = std::mem::replace(&mut pin.asserted, asserted);
        let rising = asserted && !before;
        // An edge that comes while the pin is masked is lost, as in hardware.
        if rising || pin.entry.is_level() {
            self.deliver(number);
        }
    }

    fn end_of_interrupt(&mut self, vector: u8) {
        for number in 0..PINS {
            let Some(Pin { entry, .. }) = self.pins.get(usize::from(number)).copied() else { continue };
            if !entry.is_level() || entry.vector() != vector {
                continue;
            }
            // What hardware raised is not seen here, so it may have been its interrupt.
            if !entry.is_masked() {
                self.resample |= 1 << number;
            }
            if entry.remote_irr() {
                self.change(number, |entry| entry.set_remote_irr(false));
            }
        }
    }

    /// Changes an entry, tells the hypervisor, and delivers what the change lets through.
    fn change(&mut self, number: u8, change: impl FnOnce(&mut RedirectionEntry)) {
        let Some(pin) = self.pins.get_mut(usize::from(number)) else { return };
        let sent = |entry: RedirectionEntry| entry.message().filter(|_| !entry.is_masked());
        let before = sent(pin.entry);
        change(&mut pin.entry);
        if sent(pin.entry).is_some() && sent(pin.entry) != before {
            self.resample |= 1 << number;
        }
        // The hypervisor reports the end of interrupts by these routes, so a pin that was masked while its
        // interrupt is being handled keeps its route until the end.
        let reachable = !pin.entry.is_masked() || pin.entry.remote_irr();
        let route = pin.entry.message().filter(|_| reachable);
        if route != pin.route {
            match self.controller.set_ioapic_route(number, route) {
                Ok(()) => pin.route = route,
                Err(error) => pin.complain(number, "route", &error),
            }
        }
        if pin.entry.is_level() {
            self.deliver(number);
        }
    }

    /// Sends a pin's message if it is asserted, not masked and, if level-triggered, not already being handled.
    fn deliver(&mut self, number: u8) {
        let Some(pin) = self.pins.get_mut(usize::from(number)) else { return };
        if !pin.asserted || pin.entry.is_masked() || pin.entry.remote_irr() {
            return;
        }
        let Some(message) = pin.entry.message() else { return };
        match self.controller.signal_msi(message) {
            Ok(()) => pin.entry.set_remote_irr(pin.entry.is_level()),
            Err(error) => pin.complain(number, "signal", &error),
        }
    }

    fn read_register(&self) -> u32 {
        match self.select {
            REGISTER_ID | REGISTER_ARBITRATION => self.id,
            REGISTER_VERSION => VERSION,
            select => {
                let redirection = select.checked_sub(FIRST_REDIRECTION).unwrap_or(u8::MAX);
                let pin = self.pins.get(usize::from(redirection / 2));
                pin.map_or(0, |pin| pin.entry.half(redirection % 2 == 1))
            }
        }
    }

    fn write_register(&mut self, value: u32) {
        if self.select == REGISTER_ID {
            self.id = value & ID_MASK;
        } else if let Some(redirection) = self.select.checked_sub(FIRST_REDIRECTION) {
            self.change(redirection / 2, |entry| entry.write_half(redirection % 2 == 1, value));
        }
    }
}

impl Pin {
    fn complain(&mut self, number: u8, step: &str, error: &std::io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(pin = number, step, %error, "ioapic pin may stay silent");
        }
    }
}

impl BusDevice for Ioapic {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = self.state();
        for (at, byte) in data.iter_mut().enumerate() {
            let at = offset.saturating_add(at as u64);
            let register = match at & !3 {
                IOREGSEL => state.select.into(),
                IOWIN => state.read_register(),
                _ => 0,
            };
            *byte = (register >> (at % 4 * 8)) as u8;
        }
    }

    /// The data window takes dwords only, as the data sheet asks.
    fn write(&self, offset: u64, data: &[u8]) -> Action {
        let mut state = self.state();
        match (offset, data) {
            (IOREGSEL, [select, ..]) => state.select = *select,
            (IOWIN, [a, b, c, d, ..]) => state.write_register(u32::from_le_bytes([*a, *b, *c, *d])),
            (EOI, [vector, ..]) => state.end_of_interrupt(*vector),
            _ => {}
        }
        resample(state);
        Action::None
    }
}

#[cfg(test)]
#[path = "ioapic_test.rs"]
mod tests;
