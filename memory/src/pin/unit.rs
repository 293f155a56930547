//! The core of the bring-up: how RAM is cut into units, and what to do with a unit after each outcome.
//! Pure, no system call and no clock, so that any course of events can be played through in a test.
//!
//! ```text
//! Virgin -> Pinning -> Safe (trial pin held) -> Mapped -> Released
//!              |         |
//!              +---------+--> Backoff (and again), or Failed
//! ```
//! Without a trial pin the DMA map is the pin, and a unit goes from Pinning to Mapped.

use std::time::Duration;

use super::errors::Cause;
use super::mapper::Chunk;
use crate::{GuestRange, PAGE_SIZE, RamRegion};

/// First and longest wait before another attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));

/// Cuts `regions` at multiples of `unit` bytes (rounded up to whole pages) of their offset in the memfd.
pub fn plan(regions: &[RamRegion], unit: u64) -> Vec<Chunk> {
    regions.iter().flat_map(|r| cut(&Chunk { guest: r.guest, hva: r.hva, offset: r.offset }, unit)).collect()
}

/// Cuts one chunk likewise.
pub fn cut(chunk: &Chunk, unit: u64) -> Vec<Chunk> {
    let unit = unit.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX).max(PAGE_SIZE);
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < chunk.guest.size {
        let offset = chunk.offset + done;
        let size = (unit - offset % unit).min(chunk.guest.size - done);
        let guest = GuestRange::new(chunk.guest.start + done, size);
        pieces.push(Chunk { guest, hva: chunk.hva + done, offset });
        done += size;
    }
    pieces
}

/// Where a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Nothing has been done: none of its pages exist.
    Virgin,
    /// Being pinned for the first time.
    Pinning,
    /// Held by a trial pin, hence present and outside CMA and ZONE_MOVABLE.
    Safe,
    /// Waiting before another attempt at what `Pinning` or `Safe` comes next.
    Backoff,
    /// Mapped for the devices.
    Mapped,
    /// As far as it was to go, the trial pin given back.
    Released,
    /// Given up.
    Failed,
}

/// What came of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The trial pin holds.
    Pinned,
    /// No trial pin is to be had, now or ever.
    NoTrial,
    /// The devices have it.
    Mapped,
    /// The trial pin is given back.
    Released,
    /// The wait is over.
    Waited,
    /// The kernel refused.
    Refused(Cause),
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take the trial pin.
    TrialPin,
    /// Map for the devices; pieces that are mapped already are not mapped again.
    Map,
    /// Give the trial pin back, if there is one.
    Release,
    /// Wait, then report [`Outcome::Waited`].
    Wait(Duration),
    /// The unit is done.
    Finish,
    /// The unit has failed; give back what it holds.
    Fail,
}

/// How long refusals are put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// From the first refusal of a unit to giving up.
    pub deadline: Duration,
}

/// One unit of RAM on its way.
#[derive(Clone, Debug)]
pub struct Unit {
    state: UnitState,
    /// Whether it is to be mapped.
    devices: bool,
    /// What is being done.
    action: Action,
    /// Where the last refusal came: `Backoff` goes on there.
    refused_in: (UnitState, Action),
    retries: u32,
    /// Varies the waits of units that were refused together.
    seed: u64,
}

impl Unit {
    /// A unit nothing has been done with. `devices`: whether it is to be mapped for any.
    pub fn new(devices: bool, seed: u64) -> Self {
        let first = (UnitState::Virgin, Action::TrialPin);
        Self { state: first.0, devices, action: first.1, refused_in: first, retries: 0, seed }
    }

    /// Where it stands.
    pub fn state(&self) -> UnitState {
        self.state
    }

    /// Attempts that were made again.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// The first action.
    pub fn start(&mut self) -> Action {
        self.reach(UnitState::Pinning, Action::TrialPin)
    }

    /// The next action, given what came of the last one. `refused_for`: time since the first refusal of this unit.
    pub fn step(&mut self, outcome: Outcome, refused_for: Duration, policy: &RetryPolicy) -> Action {
        use UnitState as S;
        match (self.action, outcome) {
            (Action::TrialPin, Outcome::Pinned) if self.devices => self.reach(S::Safe, Action::Map),
            (Action::TrialPin, Outcome::Pinned) => self.reach(S::Safe, Action::Release),
            (Action::TrialPin, Outcome::NoTrial) if self.devices => self.reach(S::Pinning, Action::Map),
            (Action::Map, Outcome::Mapped) => self.reach(S::Mapped, Action::Release),
            (Action::Release, Outcome::Released) => self.reach(S::Released, Action::Finish),
            (Action::TrialPin | Action::Map, Outcome::Refused(cause)) => {
                self.refused(cause, refused_for, policy)
            }
            (Action::Wait(_), Outcome::Waited) => self.reach(self.refused_in.0, self.refused_in.1),
            _ => self.reach(S::Failed, Action::Fail),
        }
    }

    fn refused(&mut self, cause: Cause, refused_for: Duration, policy: &RetryPolicy) -> Action {
        if !cause.is_transient() || refused_for >= policy.deadline {
            return self.reach(UnitState::Failed, Action::Fail);
        }
        let wait = match cause {
            Cause::Interrupted => Duration::ZERO,
            _ => backoff(self.retries, self.seed).min(policy.deadline - refused_for),
        };
        self.retries = self.retries.saturating_add(1);
        self.refused_in = (self.state, self.action);
        self.reach(UnitState::Backoff, Action::Wait(wait))
    }

    fn reach(&mut self, state: UnitState, action: Action) -> Action {
        self.state = state;
        self.action = action;
        action
    }
}

/// Doubles from 1 ms to 250 ms, less up to a quarter by which units refused together drift apart.
fn backoff(retries: u32, seed: u64) -> Duration {
    let full = BACKOFF.0.saturating_mul(1 << retries.min(16)).min(BACKOFF.1);
    // splitmix64's finaliser: enough to scatter a few waits.
    let mut x = seed.wrapping_add(u64::from(retries).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let quarter = full.as_micros() as u64 / 4;
    full - Duration::from_micros((x ^ (x >> 31)) % (quarter + 1))
}

#[cfg(test)]
#[path = "unit_test.rs"]
mod tests;
