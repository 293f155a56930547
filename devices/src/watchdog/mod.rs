//! The watchdog of Intel's 6300ESB I/O controller (datasheet 300641, chapter 16) as a PCI function, as QEMU has it and Linux drives
//! it (drivers/watchdog/i6300esb.c): a guest that does not reload the timer in time does not run as it should.
//!
//! The timer has two stages. At the end of the first the hardware raises an interrupt, which this one does not; at the end of
//! the second it pulls the line that resets the board. What the machine does then is its own business: it waits for
//! [`Watchdog::event`] and calls [`Watchdog::look`]. While the guest is paused the timer stands still.

mod timer;

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

use crate::Action;
use crate::pci::bar::BarError;
use crate::pci::config::Identity;
use crate::pci::{BarSet, BarSpace, BarSpec, BarWindow, ConfigSpace, PciFunction};
use crate::sync::lock;
use timer::{Passed, Rate, Timer};

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x25ab,
    class: 0x08_8000,
    revision: 0,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};
/// The registers are its first 16 bytes. It has a page to itself.
const BAR: BarSpec = BarSpec { index: 0, space: BarSpace::Memory32, prefetchable: false, size: 0x1000 };

/// Configuration register, 16 bits: what interrupt, how fast, and whether the second stage's end matters.
const CONFIG: u16 = 0x60;
const CONFIG_BITS: u16 = 0b10_0111;
const CONFIG_FAST: u16 = 1 << 2;
const CONFIG_NO_OUTPUT: u16 = 1 << 5;
/// Lock register, 8 bits: on or off, for ever or not.
const LOCK: u16 = 0x68;
const LOCK_LOCKED: u8 = 1 << 0;
const LOCK_ENABLED: u8 = 1 << 1;
const LOCK_FREE_RUNNING: u8 = 1 << 2;

/// Registers of the BAR: preloads of both stages, and what reloads them.
const PRELOADS: [u64; 2] = [0x0, 0x4];
const RELOAD: u64 = 0xc;
/// Bits of the latter: begin anew; it was this watchdog that reset the board. Linux looks for the second one in another place.
const RELOAD_BEGIN: u16 = 1 << 8;
const RELOAD_EXPIRED: u16 = 1 << 9 | 1 << 12;
/// Written there one after the other, they allow one write to a register.
const KEYS: [u16; 2] = [0x80, 0x86];

/// Stages that a guest makes shorter end this late, or one that runs freely would keep the host busy. (A timer of zero never ends.)
const SHORTEST: Duration = Duration::from_millis(10);

/// Why there is no watchdog.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// No timer.
    #[error("the host has no timer for it")]
    Timer(#[from] io::Error),
    /// A BAR that a function cannot have.
    #[error("its registers cannot be placed")]
    Bar(#[from] BarError),
}

/// The function, for one run of the guest.
pub struct Watchdog {
    state: Mutex<State>,
    /// What outlasts a reset: that it was the watchdog's.
    has_expired: Arc<AtomicBool>,
    event: RawFd,
}

struct State {
    space: ConfigSpace,
    config: u16,
    lock: u8,
    /// Keys that were written, in order.
    keys: usize,
    timer: Timer,
    /// Is readable when a stage ends.
    alarm: TimerFd,
}

impl State {
    fn is(&self, bit: u8) -> bool {
        self.lock & bit != 0
    }

    /// Sets the alarm to when the stage ends.
    fn set_alarm(&mut self, now: Instant) {
        let set = match self.timer.left(now) {
            Some(left) => self.alarm.reset(left.max(SHORTEST), None),
            None => self.alarm.clear(),
        };
        if let Err(error) = set {
            tracing::error!(%error, "the watchdog's timer cannot be set");
        }
    }

    fn write_lock(&mut self, value: u8, now: Instant) {
        if self.is(LOCK_LOCKED) {
            return;
        }
        let was_enabled = self.is(LOCK_ENABLED);
        self.lock = value & (LOCK_LOCKED | LOCK_ENABLED | LOCK_FREE_RUNNING);
        match (was_enabled, self.is(LOCK_ENABLED)) {
            (false, true) => self.timer.start(now),
            (_, false) => self.timer.stop(),
            (true, true) => {}
        }
        self.set_alarm(now);
    }
}

impl Watchdog {
    /// As after power-on, or after a reset that was its own doing if `has_expired` says so.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub fn new(has_expired: Arc<AtomicBool>) -> Result<Self, WatchdogError> {
        let mut bars = BarSet::new();
        bars.add(BAR)?;
        let alarm = TimerFd::new().map_err(io::Error::from)?;
        let event = alarm.as_raw_fd();
        let space = ConfigSpace::new(&IDENTITY, bars);
        let state = State { space, config: 0, lock: 0, keys: 0, timer: Timer::default(), alarm };
        Ok(Self { state: Mutex::new(state), has_expired, event })
    }

    /// Readable when [`Watchdog::look`] is to be called. Open as long as this lives.
    pub fn event(&self) -> RawFd {
        self.event
    }

    /// Looks whether the guest's time is up: then it is to be reset, or whatever is done about it.
    pub fn look(&self) -> bool {
        let (mut state, now) = (lock(&self.state), Instant::now());
        let passed = state.timer.look(now);
        if passed == Passed::Expired && state.is(LOCK_FREE_RUNNING) {
            state.timer.start(now);
        }
        // Which makes the event unreadable.
        state.set_alarm(now);
        let expired = passed == Passed::Expired && state.config & CONFIG_NO_OUTPUT == 0;
        if expired {
            self.has_expired.store(true, Ordering::Release);
        }
        expired
    }

    /// The guest is paused.
    pub fn stand_still(&self) {
        let (mut state, now) = (lock(&self.state), Instant::now());
        state.timer.stand_still(now);
        state.set_alarm(now);
    }

    /// The guest goes on.
    pub fn go_on(&self) {
        let (mut state, now) = (lock(&self.state), Instant::now());
        state.timer.go_on(now);
        state.set_alarm(now);
    }
}

impl PciFunction for Watchdog {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        let state = lock(&self.state);
        state.space.read(offset, data);
        let [low, high] = state.config.to_le_bytes();
        for (at, byte) in (offset..).zip(data) {
            match at {
                CONFIG => *byte = low,
                at if at == CONFIG + 1 => *byte = high,
                LOCK => *byte = state.lock,
                _ => {}
            }
        }
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        let (mut state, now) = (lock(&self.state), Instant::now());
        state.space.write(offset, data);
        for (at, byte) in (offset..).zip(data) {
            match at {
                // All its bits are in the lower byte.
                CONFIG => {
                    state.config = u16::from(*byte) & CONFIG_BITS;
                    let fast = state.config & CONFIG_FAST != 0;
                    state.timer.set_rate(if fast { Rate::Microsecond } else { Rate::Millisecond });
                }
                LOCK => state.write_lock(*byte, now),
                _ => {}
            }
        }
        Action::None
    }

    fn bars(&self) -> Vec<BarWindow> {
        lock(&self.state).space.bars().windows()
    }

    fn decoded(&self) -> Vec<BarWindow> {
        lock(&self.state).space.decoded()
    }

    fn place_bar(&self, index: u8, address: u64) {
        lock(&self.state).space.bars_mut().place(index, address);
    }

    fn bar_read(&self, _bar: u8, offset: u64, data: &mut [u8]) {
        let expired = if self.has_expired.load(Ordering::Acquire) { RELOAD_EXPIRED } else { 0 };
        for (at, byte) in (offset..).zip(data) {
            let [low, high] = expired.to_le_bytes();
            *byte = match at {
                RELOAD => low,
                at if at == RELOAD + 1 => high,
                _ => 0,
            };
        }
    }

    fn bar_write(&self, _bar: u8, offset: u64, data: &[u8]) -> Action {
        let (mut state, now) = (lock(&self.state), Instant::now());
        let value = data.iter().rev().fold(0, |value: u32, byte| value << 8 | u32::from(*byte));
        let word = value as u16;
        if offset == RELOAD && KEYS.get(state.keys) == Some(&word) {
            state.keys += 1;
            return Action::None;
        }
        let unlocked = state.keys == KEYS.len();
        // A first key begins anew.
        state.keys = usize::from(offset == RELOAD && word == KEYS[0]);
        if !unlocked {
            return Action::None;
        }
        match offset {
            RELOAD => {
                if word & RELOAD_EXPIRED != 0 {
                    self.has_expired.store(false, Ordering::Release);
                }
                if word & RELOAD_BEGIN != 0 && state.timer.is_on() {
                    state.timer.start(now);
                    state.set_alarm(now);
                }
            }
            at => {
                if let Some(stage) = PRELOADS.iter().position(|preload| *preload == at) {
                    state.timer.preload(stage, value);
                }
            }
        }
        Action::None
    }
}

#[cfg(test)]
#[path = "watchdog_test.rs"]
mod tests;
