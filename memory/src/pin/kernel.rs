//! What the bring-up needs of the kernel, as a trait, so that tests can put a scripted one in its place.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::mapper::Chunk;
use super::privilege::Memlock;
use super::trial::{TrialPin, TrialRing, TrialUnavailable};
use crate::residency::Vmstat;

/// The kernel as the bring-up sees it.
pub(super) trait Kernel: Sync {
    /// Something to take trial pins with, of up to `unit` bytes, one at a time. Each worker asks for its own.
    fn trial(&self, unit: u64) -> Result<Box<dyn Trial + '_>, TrialUnavailable>;
    /// The host's counters, if they can be read.
    fn counters(&self) -> Option<Vmstat>;
    /// What may be pinned.
    fn memlock(&self) -> Memlock;
    /// Time since some fixed instant.
    fn now(&self) -> Duration;
    /// Lets `duration` pass.
    fn wait(&self, duration: Duration);
}

/// Takes trial pins.
pub(super) trait Trial {
    /// Pins all pages of `chunk` until the returned guard is dropped.
    fn pin(&self, chunk: &Chunk) -> io::Result<Box<dyn Held + '_>>;
}

/// A trial pin that holds until dropped.
pub(super) trait Held {}

/// The kernel this process runs on.
#[derive(Debug)]
pub(super) struct Host {
    memlock: Memlock,
    started: Instant,
}

impl Host {
    pub(super) fn new() -> Self {
        Self { memlock: Memlock::read(), started: Instant::now() }
    }
}

impl Kernel for Host {
    fn trial(&self, unit: u64) -> Result<Box<dyn Trial + '_>, TrialUnavailable> {
        if !self.memlock.allows(unit) {
            return Err(TrialUnavailable::Memlock { need: unit, limit: self.memlock });
        }
        Ok(Box::new(TrialRing::new(1)?))
    }

    fn counters(&self) -> Option<Vmstat> {
        Vmstat::read().ok()
    }

    fn memlock(&self) -> Memlock {
        self.memlock
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn wait(&self, duration: Duration) {
        thread::sleep(duration);
    }
}

impl Trial for TrialRing {
    fn pin(&self, chunk: &Chunk) -> io::Result<Box<dyn Held + '_>> {
        TrialRing::pin(self, 0, chunk).map(|pin| Box::new(pin) as Box<dyn Held>)
    }
}

impl Held for TrialPin<'_> {}
