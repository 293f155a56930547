//! Carries one unit of RAM through its states: does what the state machine says and reports what came of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::errors::{Cause, PinError, Refusal};
use super::kernel::{Held, Kernel, Trial};
use super::mapper::{Chunk, DmaMapper};
use super::privilege::Memlock;
use super::trial::TrialUnavailable;
use super::unit::{Action, Outcome, RetryPolicy, Unit, cut};
use crate::PAGE_SIZE;
use crate::residency::pagemap::Pagemap;
use crate::residency::{Surveyor, Tally, Vmstat};

/// What all workers of a bring-up share.
pub(super) struct Shared<'a> {
    pub(super) kernel: &'a dyn Kernel,
    pub(super) mapper: Option<&'a dyn DmaMapper>,
    pub(super) surveyor: &'a Surveyor,
    pub(super) policy: RetryPolicy,
    /// Size of what is mapped without a trial pin, in bytes.
    pub(super) bare_unit: u64,
    /// All RAM, in bytes.
    pub(super) ram_bytes: u64,
    /// Whether the bring-up has failed elsewhere.
    pub(super) stop: AtomicBool,
    /// What is mapped so far.
    pub(super) mapped: Mutex<Vec<Chunk>>,
}

impl Shared<'_> {
    fn map(&self, mapper: &dyn DmaMapper, piece: &Chunk) -> Result<(), Refusal> {
        mapper.map(piece).map_err(Refusal::DmaMap)?;
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner).push(*piece);
        Ok(())
    }
}

/// One thread's share of a bring-up.
pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    trial: Result<Box<dyn Trial + 'a>, TrialUnavailable>,
    pagemap: Option<Pagemap>,
}

/// A unit that went well.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) bytes: u64,
    pub(super) retries: u32,
    pub(super) tally: Tally,
    /// Why there was no trial pin, if so.
    pub(super) bare: Option<String>,
}

/// A unit in the works.
struct Job<'t> {
    chunk: Chunk,
    /// What is still to be mapped, last piece first.
    pending: Vec<Chunk>,
    held: Option<Box<dyn Held + 't>>,
    bare: Option<String>,
    tally: Tally,
    started: Duration,
    refused: Option<(Duration, Cause, Refusal)>,
}

impl<'a> Worker<'a> {
    /// A worker with a pinner of its own for units of up to `unit` bytes.
    pub(super) fn new(shared: &'a Shared<'a>, unit: u64) -> Self {
        Self { shared, trial: shared.kernel.trial(unit), pagemap: Pagemap::open().ok() }
    }

    /// Brings one unit up.
    pub(super) fn bring_up(&mut self, chunk: &Chunk) -> Result<Done, PinError> {
        let Self { shared, trial, pagemap } = self;
        let mut unit = Unit::new(shared.mapper.is_some(), chunk.hva);
        let mut job = Job {
            chunk: *chunk,
            pending: vec![*chunk],
            held: None,
            bare: None,
            tally: Tally::default(),
            started: shared.kernel.now(),
            refused: None,
        };
        let mut action = unit.start();
        loop {
            let outcome = match action {
                Action::TrialPin => job.trial_pin(shared, trial),
                Action::Map => job.map(shared),
                Action::Release => job.release(shared, pagemap),
                Action::Wait(duration) => {
                    if shared.stop.load(Ordering::Relaxed) {
                        return Err(job.fail(shared, unit.retries()));
                    }
                    shared.kernel.wait(duration);
                    Outcome::Waited
                }
                Action::Finish => {
                    let Job { bare, tally, .. } = job;
                    return Ok(Done { bytes: chunk.guest.size, retries: unit.retries(), tally, bare });
                }
                Action::Fail => return Err(job.fail(shared, unit.retries() + 1)),
            };
            let refused_for = job
                .refused
                .as_ref()
                .map_or(Duration::ZERO, |(since, ..)| shared.kernel.now().saturating_sub(*since));
            action = unit.step(outcome, refused_for, &shared.policy);
        }
    }
}

impl<'t> Job<'t> {
    fn trial_pin(
        &mut self,
        shared: &Shared,
        trial: &'t Result<Box<dyn Trial + 't>, TrialUnavailable>,
    ) -> Outcome {
        let trial = match trial {
            Ok(trial) => trial,
            Err(reason) => return self.go_bare(shared, reason.to_string()),
        };
        let before = shared.kernel.counters();
        let memlock = shared.kernel.memlock();
        match trial.pin(&self.chunk) {
            Ok(held) => {
                self.held = Some(held);
                Outcome::Pinned
            }
            Err(error) => {
                // Other processes of this user count against the limit too, so it may be hit by any size.
                let limited = memlock.limit.map(|_| memlock);
                match self.refused(shared, Refusal::TrialPin(error), before, limited) {
                    Outcome::Refused(cause @ Cause::Memlock(_)) if shared.mapper.is_some() => {
                        self.go_bare(shared, cause.to_string())
                    }
                    outcome => outcome,
                }
            }
        }
    }

    /// Goes on without a trial pin, in smaller steps: a refused map makes no progress beyond its culprit.
    fn go_bare(&mut self, shared: &Shared, reason: String) -> Outcome {
        self.bare = Some(reason);
        self.pending = cut(&self.chunk, shared.bare_unit);
        self.pending.reverse();
        Outcome::NoTrial
    }

    fn map(&mut self, shared: &Shared) -> Outcome {
        let Some(mapper) = shared.mapper else { return Outcome::Mapped };
        while let Some(piece) = self.pending.last() {
            let before = shared.kernel.counters();
            let memlock = shared.kernel.memlock();
            if let Err(refusal) = shared.map(mapper, piece) {
                let exceeded = (!memlock.allows(shared.ram_bytes)).then_some(memlock);
                return self.refused(shared, refusal, before, exceeded);
            }
            self.pending.pop();
        }
        Outcome::Mapped
    }

    fn refused(
        &mut self,
        shared: &Shared,
        refusal: Refusal,
        before: Option<Vmstat>,
        memlock: Option<Memlock>,
    ) -> Outcome {
        let after = shared.kernel.counters();
        let grown = after.zip(before).map(|(after, before)| after.since(&before));
        let cause = Cause::classify(refusal.io_error(), grown.as_ref(), memlock);
        tracing::debug!(guest = %self.chunk.guest, %cause, error = %refusal.io_error(), "pinning refused");
        let since = self.refused.take().map_or_else(|| shared.kernel.now(), |(since, ..)| since);
        self.refused = Some((since, cause, refusal));
        Outcome::Refused(cause)
    }

    /// The pages are counted while they are pinned for certain.
    fn release(&mut self, shared: &Shared, pagemap: &mut Option<Pagemap>) -> Outcome {
        let counted = pagemap.as_mut().and_then(|pagemap| shared.surveyor.count(pagemap, &[self.chunk]).ok());
        match counted {
            Some(tally) => self.tally = tally,
            None => self.tally.add_hidden(self.chunk.guest.size / PAGE_SIZE),
        }
        self.held = None;
        Outcome::Released
    }

    fn fail(self, shared: &Shared, attempts: u32) -> PinError {
        let Some((_, cause, refusal)) = self.refused else {
            return PinError::NoPinner { reason: self.bare.unwrap_or_default() };
        };
        let guest = self.pending.last().unwrap_or(&self.chunk).guest;
        let elapsed = shared.kernel.now().saturating_sub(self.started);
        let seen = match cause {
            Cause::Migration { .. } => shared.surveyor.census(&[self.chunk]).ok(),
            _ => None,
        };
        PinError::Refused {
            guest,
            cause,
            attempts,
            elapsed,
            census: seen.map(Box::new),
            refusal: Box::new(refusal),
        }
    }
}
