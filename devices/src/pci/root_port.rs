//! A PCIe root port: a bridge from bus 0 to a slot (PCIe base 6.0 §7.5.1.3, §7.5.2, §7.5.3).
//!
//! The port is there for the guest to see a topology, and to plug devices in and out. The link is not real: it trains at
//! once, as wide and as fast as the card's own. What no card's address may be mapped to when the port does not forward
//! it is for [`PciBus`](super::PciBus) to see to, as is resetting what is behind the port.

use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::aperture::Apertures;
use super::bridge;
use super::config::{ConfigSpace, Identity};
use super::function::PciFunction;
use super::msi::{Msi, MsiShape};
use super::slot::{self, Effects, Slot, SlotState};
use super::vector::VectorBackend;
use crate::Action;
use crate::irq::InterruptController;
use crate::sync::lock;

/// The "PCIe Root port" of QEMU's registered set, which Linux drives by its class.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x000c,
    class: 0x06_0400,
    revision: 0,
    subsystem_vendor: 0,
    subsystem: 0,
};

const POWER_MANAGEMENT: u8 = 0x01;
/// Version 3, no PME, D0 and D3hot.
const POWER_CAPABILITIES: u16 = 3;
const POWER_CONTROL: u16 = 4;
/// A port that comes back from D3hot was not reset.
const POWER_NO_SOFT_RESET: u16 = 1 << 3;
const POWER_STATE: u16 = 0b11;
const D3_HOT: u16 = 3;

const MSI: u8 = 0x05;

const EXPRESS: u8 = 0x10;
const EXPRESS_SIZE: usize = 0x3c;
/// Version 2, a root port with a slot, whose interrupt is message 0.
const EXPRESS_ROOT_PORT: u16 = 2 | 4 << 4 | 1 << 8;
const DEVICE_CAPABILITIES: u16 = 0x04;
/// Errors are reported by their role; packets have up to 128 bytes, which is no matter to the real link.
const ROLE_BASED_ERRORS: u32 = 1 << 15;
const DEVICE_CONTROL: u16 = 0x08;
/// Error reporting, size of packets.
const DEVICE_CONTROL_WRITABLE: u16 = 0x00ef;
const LINK_CAPABILITIES: u16 = 0x0c;
/// The link's state is reported; no power management of the link.
const LINK_REPORTS: u32 = 1 << 20;
const LINK_ASPM_OPTIONAL: u32 = 1 << 22;
const LINK_PORT_SHIFT: u32 = 24;
const LINK_CONTROL: u16 = 0x10;
/// Link disable, common clock, extended synchronisation. Retraining is done at once and reads as 0.
const LINK_CONTROL_WRITABLE: u16 = LINK_DISABLE | 1 << 6 | 1 << 7;
const LINK_DISABLE: u16 = 1 << 4;
const LINK_STATUS: u16 = 0x12;
const LINK_STATUS_ACTIVE: u16 = 1 << 13;
const SLOT_CAPABILITIES: u16 = 0x14;
const SLOT_CONTROL: u16 = 0x18;
const SLOT_STATUS: u16 = 0x1a;
const ROOT_CONTROL: u16 = 0x1c;
/// System errors.
const ROOT_CONTROL_WRITABLE: u16 = 0x0007;
const LINK_CAPABILITIES_2: u16 = 0x2c;
const LINK_CONTROL_2: u16 = 0x30;
/// Target speed.
const LINK_CONTROL_2_WRITABLE: u16 = 0x000f;

/// Speed and width of a link, as the link status register has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// 1 for 2.5 GT/s, 2 for 5, 3 for 8, 4 for 16, 5 for 32.
    pub speed: u8,
    /// Lanes.
    pub width: u8,
}

impl Link {
    /// What every card can do.
    pub const LEAST: Self = Self { speed: 1, width: 1 };
    /// What the port can do.
    pub const MOST: Self = Self { speed: 5, width: 32 };

    fn bits(self) -> u16 {
        let (speed, width) = (self.speed.clamp(1, Self::MOST.speed), self.width.clamp(1, Self::MOST.width));
        u16::from(speed) | u16::from(width) << 4
    }
}

/// How waiting for a guest to let go of a card ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The card is gone for the guest.
    Gone,
    /// There is no card.
    Empty,
    /// The guest did not let go of it in time. The card stays.
    Kept(SlotState),
    /// The guest is gone itself.
    Over,
}

/// A root port with a hot-plug slot.
pub struct RootPort {
    state: Mutex<State>,
    /// Told when the card is gone for the guest, and when the guest is.
    departed: Condvar,
    msi: Msi,
    trigger: Arc<Trigger>,
}

struct State {
    config: ConfigSpace,
    slot: Slot,
    link: Link,
    /// Functions behind it are to be reset.
    reset: bool,
    over: bool,
    places: Places,
}

/// Offsets of the capabilities.
#[derive(Clone, Copy, Default)]
struct Places {
    power: u16,
    msi: u16,
    express: u16,
}

impl RootPort {
    /// A port with this slot number, which guests show to people. With a card it is as if that had always been there.
    pub fn new(
        number: u8,
        card: Option<Link>,
        controller: &Arc<dyn InterruptController>,
    ) -> Result<Arc<Self>, super::config::CapabilityError> {
        let shape = MsiShape::new(1, true, true);
        let trigger = Arc::new(Trigger::default());
        let msi = Msi::new(shape, controller.clone(), trigger.clone());
        let mut config = ConfigSpace::bridge(&IDENTITY);
        bridge::lay(&mut config);
        let power = [POWER_CAPABILITIES.to_le_bytes(), POWER_NO_SOFT_RESET.to_le_bytes(), [0; 2]].concat();
        let places = Places {
            power: config.add_capability(POWER_MANAGEMENT, &power, &[0, 0, POWER_STATE as u8])?,
            msi: config.add_capability(MSI, &shape.capability(), &shape.writable())?,
            express: config.add_capability(EXPRESS, &[0; EXPRESS_SIZE - 2], &[])?,
        };
        lay_express(&mut config, places.express, number);
        let link = card.unwrap_or(Link::LEAST);
        let slot = Slot::new(card.is_some());
        let mut state = State { config, slot, link, reset: false, over: false, places };
        state.show();
        Ok(Arc::new(Self { state: Mutex::new(state), departed: Condvar::new(), msi, trigger }))
    }

    /// Puts a card in and tells the guest. False: there is one.
    pub fn insert(&self, link: Link) -> bool {
        let mut state = lock(&self.state);
        let empty = state.slot.is_empty();
        if empty {
            state.link = link;
            let effects = state.slot.insert();
            self.settle(&mut state, effects);
        }
        empty
    }

    /// Presses the attention button and waits until the guest has let go of the card: it is gone for the guest, and
    /// comes back to whoever put it there with [`PciBus::remove`](super::PciBus::remove).
    pub fn eject(&self, patience: Duration) -> Departure {
        let started = Instant::now();
        let mut state = lock(&self.state);
        if state.slot.is_empty() {
            return Departure::Empty;
        }
        let effects = state.slot.ask_to_leave();
        self.settle(&mut state, effects);
        loop {
            let left = patience.saturating_sub(started.elapsed());
            if state.slot.is_gone() {
                return Departure::Gone;
            } else if state.over {
                return Departure::Over;
            } else if left.is_zero() {
                state.slot.let_stay();
                return Departure::Kept(state.slot.state());
            }
            state = self.wait(state, left);
        }
    }

    /// Pulls the card without asking the guest, which is told.
    pub fn pull(&self) {
        let mut state = lock(&self.state);
        let effects = state.slot.pull();
        self.settle(&mut state, effects);
    }

    /// The guest does not run any more: nobody is to wait for it.
    pub fn give_up(&self) {
        lock(&self.state).over = true;
        self.departed.notify_all();
    }

    /// What the guest makes of the slot.
    pub fn slot(&self) -> SlotState {
        lock(&self.state).slot.state()
    }

    /// The card that is gone was taken away: another one may come.
    pub(super) fn vacate(&self) {
        let mut state = lock(&self.state);
        state.slot.vacate();
        state.reset = false;
    }

    /// Sets the number of the bus behind it, and its windows, as firmware does.
    pub(super) fn program(&self, bus: u8, windows: &Apertures) {
        bridge::program(&mut lock(&self.state).config, bus, windows);
    }

    /// The bus behind it and the last one it leads to, as the guest has numbered them.
    pub(super) fn buses(&self) -> Option<RangeInclusive<u8>> {
        bridge::buses(&lock(&self.state).config)
    }

    /// Whether accesses reach the card.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.state).is_open()
    }

    /// The addresses it forwards to the card.
    pub(super) fn forwarded(&self) -> Apertures {
        let state = lock(&self.state);
        if state.is_open() { bridge::forwarded(&state.config) } else { Apertures::NONE }
    }

    /// The addresses it would forward to a card if the guest enabled it.
    pub(super) fn windows(&self) -> Apertures {
        bridge::windows(&lock(&self.state).config)
    }

    /// Whether the functions behind it are to be reset; asked once.
    pub(super) fn take_reset(&self) -> bool {
        std::mem::take(&mut lock(&self.state).reset)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, patience: Duration) -> MutexGuard<'a, State> {
        let waited = self.departed.wait_timeout(state, patience);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn settle(&self, state: &mut State, effects: Effects) {
        state.reset |= effects.reset;
        state.show();
        if effects.interrupt {
            self.trigger.raise();
        }
        if state.slot.is_gone() {
            self.departed.notify_all();
        }
    }
}

impl State {
    fn is_open(&self) -> bool {
        let power = self.config.word(self.places.power + POWER_CONTROL) & POWER_STATE;
        self.slot.link_is_up() && power != D3_HOT
    }

    /// Puts what changes by itself into configuration space.
    fn show(&mut self) {
        let express = self.places.express;
        let link = if self.slot.link_is_up() { self.link.bits() | LINK_STATUS_ACTIVE } else { 0 };
        self.config.set(express + LINK_STATUS, &link.to_le_bytes());
        self.config.set(express + SLOT_CONTROL, &self.slot.control().to_le_bytes());
        self.config.set(express + SLOT_STATUS, &self.slot.status().to_le_bytes());
    }

    /// Acts on a write to the slot's registers; what was not written of them is as it was.
    fn write_slot(&mut self, offset: u16, data: &[u8]) -> Effects {
        let [control, status] = [SLOT_CONTROL, SLOT_STATUS].map(|register| self.places.express + register);
        let mut effects = Effects::default();
        if touches(offset, data, status, 2) {
            effects = self.slot.clear_events(written(offset, data, status, 0));
        }
        if touches(offset, data, control, 2) {
            let after = self.slot.write_control(written(offset, data, control, self.slot.control()));
            effects.interrupt |= after.interrupt;
            effects.reset |= after.reset;
        }
        effects
    }
}

impl PciFunction for RootPort {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        let state = lock(&self.state);
        state.config.read(offset, data);
        let pending = state.places.msi + self.msi.shape().pending_offset().unwrap_or_default();
        if touches(offset, data, pending, 4) {
            for (at, value) in (pending..).zip(self.msi.pending().to_le_bytes()) {
                let place = at.checked_sub(offset).and_then(|at| data.get_mut(usize::from(at)));
                if let Some(byte) = place {
                    *byte = value;
                }
            }
        }
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        let mut state = lock(&self.state);
        let Places { power, msi, express } = state.places;
        let (was_resetting, was_in) =
            (bridge::resets(&state.config), state.config.word(power + POWER_CONTROL));
        state.config.write(offset, data);
        let is_in = state.config.word(power + POWER_CONTROL);
        if !matches!(is_in & POWER_STATE, 0 | D3_HOT) {
            // States that do not exist are not entered.
            state.config.set(power + POWER_CONTROL, &was_in.to_le_bytes());
        }
        state.reset |= bridge::resets(&state.config) && !was_resetting;
        let disabled = state.config.word(express + LINK_CONTROL) & LINK_DISABLE != 0;
        let link = state.slot.disable_link(disabled);
        let slot = state.write_slot(offset, data);
        if touches(offset, data, msi + 2, self.msi.shape().size() - 2) {
            let mut body = vec![0; usize::from(self.msi.shape().size() - 2)];
            state.config.read(msi + 2, &mut body);
            self.msi.update(&body);
        }
        let (interrupt, reset) = (link.interrupt || slot.interrupt, link.reset || slot.reset);
        self.settle(&mut state, Effects { interrupt, reset });
        Action::None
    }
}

/// The PCIe capability, but for what the slot shows in it.
fn lay_express(config: &mut ConfigSpace, at: u16, number: u8) {
    config.set(at + 2, &EXPRESS_ROOT_PORT.to_le_bytes());
    config.set(at + DEVICE_CAPABILITIES, &ROLE_BASED_ERRORS.to_le_bytes());
    config.set_writable(at + DEVICE_CONTROL, &DEVICE_CONTROL_WRITABLE.to_le_bytes());
    let most = u32::from(Link::MOST.bits());
    let link = most | LINK_REPORTS | LINK_ASPM_OPTIONAL | u32::from(number) << LINK_PORT_SHIFT;
    config.set(at + LINK_CAPABILITIES, &link.to_le_bytes());
    config.set_writable(at + LINK_CONTROL, &LINK_CONTROL_WRITABLE.to_le_bytes());
    let slot = slot::CAPABILITIES | u32::from(number) << slot::NUMBER_SHIFT;
    config.set(at + SLOT_CAPABILITIES, &slot.to_le_bytes());
    config.set_writable(at + ROOT_CONTROL, &ROOT_CONTROL_WRITABLE.to_le_bytes());
    // A bit for each speed from 1 on.
    let speeds = (1_u32 << (Link::MOST.speed + 1)) - 2;
    config.set(at + LINK_CAPABILITIES_2, &speeds.to_le_bytes());
    config.set(at + LINK_CONTROL_2, &u16::from(Link::MOST.speed).to_le_bytes());
    config.set_writable(at + LINK_CONTROL_2, &LINK_CONTROL_2_WRITABLE.to_le_bytes());
}

/// Whether an access reaches into the register at `at`.
fn touches(offset: u16, data: &[u8], at: u16, size: u16) -> bool {
    offset < at + size && usize::from(at) < usize::from(offset) + data.len()
}

/// A register of two bytes after a write of some of them.
fn written(offset: u16, data: &[u8], at: u16, before: u16) -> u16 {
    let mut bytes = before.to_le_bytes();
    for (place, byte) in (offset..).zip(data) {
        let at = place.checked_sub(at).and_then(|at| bytes.get_mut(usize::from(at)));
        if let Some(value) = at {
            *value = *byte;
        }
    }
    u16::from_le_bytes(bytes)
}

/// What raises the port's interrupt.
#[derive(Default)]
struct Trigger(Mutex<Option<EventFd>>);

impl Trigger {
    /// Nothing happens while the guest has MSI disabled: the registers keep what happened.
    fn raise(&self) {
        if let Some(eventfd) = &*lock(&self.0)
            && let Err(error) = eventfd.write(1)
        {
            tracing::warn!(%error, "a hot-plug interrupt is lost");
        }
    }
}

impl VectorBackend for Trigger {
    fn connect(&self, vectors: &[(u16, &EventFd)]) -> io::Result<()> {
        if let [(_, trigger), ..] = vectors {
            *lock(&self.0) = Some(trigger.try_clone()?);
        }
        Ok(())
    }

    fn disconnect_all(&self) {
        *lock(&self.0) = None;
    }

    fn owner(&self) -> String {
        "a root port".to_owned()
    }
}

#[cfg(test)]
#[path = "root_port_test.rs"]
mod tests;
