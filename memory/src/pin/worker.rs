//! Carries one unit of RAM through its states: does what the state machine says and reports what came of it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::errors::{Cause, PinError, Refusal};
use super::kernel::{Kernel, PinFault};
use super::mapper::{Chunk, DmaMapper};
use super::pinners::Pinners;
use super::plan::Span;
use super::privilege::Memlock;
use super::trial::{Loss, Pinner};
use super::unit::{Action, Outcome, Resolved, RetryPolicy, Unit, UnitSpec};
use crate::residency::pagemap::Pagemap;
use crate::residency::{Surveyor, Tally, Vmstat};
use crate::{GuestRange, PAGE_SIZE};

/// What all workers of a bring-up share.
pub(super) struct Shared<'a> {
    pub(super) kernel: &'a dyn Kernel,
    pub(super) mapper: Option<&'a dyn DmaMapper>,
    pub(super) surveyor: &'a Surveyor,
    pub(super) policy: RetryPolicy,
    /// Size of what is pinned in one go where pages may have to be moved, in bytes.
    pub(super) step: u64,
    /// The same of what is mapped without a trial pin.
    pub(super) bare: u64,
    /// All RAM, in bytes.
    pub(super) ram_bytes: u64,
    /// Whether pages are counted.
    pub(super) verify: bool,
    /// Whether the bring-up has failed elsewhere.
    pub(super) stop: AtomicBool,
    /// Refusals so far.
    pub(super) retries: AtomicU64,
    /// What is mapped so far.
    pub(super) mapped: Mutex<Vec<Chunk>>,
}

impl Shared<'_> {
    fn map(&self, mapper: &dyn DmaMapper, piece: &Chunk, held: bool) -> Result<(), Refusal> {
        let held = if held { self.kernel.memfd() } else { None };
        mapper.map(piece, held).map_err(Refusal::DmaMap)?;
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner).push(*piece);
        Ok(())
    }

    fn since(&self, instant: Duration) -> Duration {
        self.kernel.now().saturating_sub(instant)
    }
}

/// One thread's share of a bring-up.
pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    pinners: Pinners<'a>,
    pagemap: Option<Pagemap>,
    /// What refusals have cost so far, over all units.
    lost: Duration,
}

/// A unit that went well.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) bytes: u64,
    pub(super) retries: u32,
    /// Where its pages lie.
    pub(super) tally: Tally,
    /// Where they lay before, if there were any and that was looked at.
    pub(super) found: Option<Tally>,
    /// Who held the trial pins; nobody if it was mapped without.
    pub(super) pinner: Option<Pinner>,
    /// Why better pinners were not used.
    pub(super) passed_over: Vec<String>,
    pub(super) resolved: Vec<(GuestRange, Resolved)>,
}

/// A unit in the works.
struct Job<'j, 'a> {
    shared: &'a Shared<'a>,
    pinners: &'j mut Pinners<'a>,
    chunk: Chunk,
    /// Whether the kernel has stalled on it.
    hurry: bool,
    started: Duration,
    refused: Option<(Cause, Refusal)>,
}

impl<'a> Worker<'a> {
    /// A worker with pinners of its own for units of up to `unit` bytes.
    pub(super) fn new(shared: &'a Shared<'a>, unit: u64) -> Self {
        let pinners = Pinners::new(shared.kernel, unit, &shared.stop);
        Self { shared, pinners, pagemap: Pagemap::open().ok(), lost: Duration::ZERO }
    }

    /// Brings one unit up; `None` if that was abandoned, since another has failed.
    pub(super) fn bring_up(&mut self, chunk: &Chunk) -> Result<Option<Done>, PinError> {
        let Self { shared, pinners, pagemap, lost } = self;
        let shared = *shared;
        let populated = shared.kernel.is_populated(chunk);
        if populated {
            // Others may have made its pages, through the memfd alone.
            shared.kernel.show_present(chunk);
        }
        let found = if populated && shared.verify { count(shared, pagemap, chunk) } else { None };
        let mut unit = Unit::new(UnitSpec {
            size: chunk.guest.size,
            step: shared.step,
            bare: shared.bare,
            devices: shared.mapper.is_some(),
            crowded: shared.mapper.is_some_and(DmaMapper::counts_by_user),
            populated,
            pool: shared.kernel.takes_from_pool(),
            seed: chunk.hva,
        });
        let started = shared.kernel.now();
        let mut job = Job { shared, pinners, chunk: *chunk, hurry: false, started, refused: None };
        let mut tally = Tally::default();
        let mut action = unit.start();
        loop {
            let begun = shared.kernel.now();
            let outcome = match action {
                _ if shared.stop.load(Ordering::Relaxed) => {
                    job.pinners.release();
                    return Ok(None);
                }
                Action::Pin(span) => job.pin(span),
                Action::Map(span) => job.map(span, !unit.is_bare()),
                Action::Locate(span) => Outcome::Located(job.locate(span)),
                Action::Replace(span) => job.replace(span, unit.is_bare()),
                Action::Populate(span) => job.populate(span),
                Action::Help(span) => {
                    shared.kernel.help(&chunk.part(span));
                    Outcome::Helped
                }
                Action::Release => {
                    tally = job.release(pagemap);
                    Outcome::Released
                }
                Action::Wait(duration) => {
                    shared.kernel.wait(duration);
                    Outcome::Waited
                }
                Action::Finish => {
                    let resolved =
                        unit.resolved().iter().map(|it| (chunk.part(it.span).guest, *it)).collect();
                    let pinner = if unit.is_bare() { None } else { job.pinners.current() };
                    return Ok(Some(Done {
                        bytes: chunk.guest.size,
                        retries: unit.retries(),
                        tally,
                        found,
                        pinner,
                        passed_over: job.pinners.passed_over().to_vec(),
                        resolved,
                    }));
                }
                Action::Fail => return Err(job.fail(&unit)),
            };
            let wasted = job.pinners.wasted();
            *lost += if unit.loses_by(&outcome) { shared.since(begun) } else { wasted };
            action = unit.step(outcome, *lost, &shared.policy);
        }
    }
}

impl Job<'_, '_> {
    fn pin(&mut self, span: Span) -> Outcome {
        let Some((trial, pinner)) = self.pinners.trial() else {
            if !self.hurry {
                return Outcome::NoTrial;
            }
            // A map would stall as well, where nobody could end it.
            let reason = self.pinners.passed_over().join("; ");
            self.note(Cause::Stalled, Refusal::Helper(io::Error::other(reason)));
            return Outcome::Refused(Cause::Stalled);
        };
        let before = self.shared.kernel.counters();
        let memlock = self.shared.kernel.memlock();
        let fault = match trial.pin(&self.chunk.part(span), self.hurry) {
            Ok(()) => return Outcome::Pinned,
            Err(fault) => fault,
        };
        match fault {
            PinFault::Refused(source) => {
                let refusal = Refusal::TrialPin { call: pinner.call(), source };
                // Other processes of this user count against the limit too, so it may be hit by any size.
                let limited = memlock.limit.map(|_| memlock).filter(|_| pinner != Pinner::HelperUdmabuf);
                match self.refused(refusal, before, limited) {
                    Outcome::Refused(cause @ Cause::Memlock(_)) if self.shared.mapper.is_some() => {
                        self.pinners.give_up(cause.to_string());
                        Outcome::NoTrial
                    }
                    outcome => outcome,
                }
            }
            PinFault::Lost { loss, how } => {
                let stalled = loss == Loss::Stalled;
                self.hurry |= stalled;
                self.pinners.lost(loss, how.clone());
                let cause = if stalled { Cause::Stalled } else { Cause::HelperLost };
                self.note(cause, Refusal::Helper(io::Error::other(how)));
                Outcome::Lost { stalled }
            }
        }
    }

    fn populate(&mut self, span: Span) -> Outcome {
        let part = self.chunk.part(span);
        tracing::debug!(guest = %part.guest, "the pool's pages outside CMA and ZONE_MOVABLE are used up");
        match self.shared.kernel.populate(&part) {
            Ok(()) => Outcome::Populated,
            Err(source) => self.refused(Refusal::Populate(source), None, None),
        }
    }

    fn map(&mut self, span: Span, under_trial: bool) -> Outcome {
        let Some(mapper) = self.shared.mapper else { return Outcome::Mapped };
        let part = self.chunk.part(span);
        if under_trial {
            // The pages exist, but only the helper has them in its page tables. A map by address would enter one at a time
            // into ours, a map by file none, and they could not be counted.
            self.shared.kernel.show(&part);
        }
        let before = self.shared.kernel.counters();
        let memlock = self.shared.kernel.memlock();
        let Err(refusal) = self.shared.map(mapper, &part, under_trial) else { return Outcome::Mapped };
        // Counted by user it may be hit by any size, as by trial pins.
        let shared_limit = mapper.counts_by_user() && memlock.limit.is_some();
        let exceeded = (shared_limit || !memlock.allows(self.shared.ram_bytes)).then_some(memlock);
        let outcome = self.refused(refusal, before, exceeded);
        if let (true, true, Outcome::Refused(cause @ Cause::Memlock(_))) =
            (under_trial, shared_limit, &outcome)
        {
            self.pinners.give_up(cause.to_string());
            return Outcome::NoTrial;
        }
        if under_trial && matches!(outcome, Outcome::Refused(Cause::Migration { .. })) && !self.pinners.hold()
        {
            return Outcome::Lost { stalled: false };
        }
        outcome
    }

    fn locate(&self, span: Span) -> Vec<Span> {
        let part = self.chunk.part(span);
        // A huge page that was split on the way has left the page tables. What has stalled a helper is not touched.
        if !self.hurry {
            self.shared.kernel.show_present(&part);
        }
        let located = self.shared.kernel.locate(self.shared.surveyor, &part);
        tracing::debug!(guest = %part.guest, culprits = located.len(), "looked for what cannot be pinned where it is");
        located.into_iter().map(|it| Span { start: span.start + it.start, size: it.size }).collect()
    }

    /// New pages are pinned where they are allocated; the old ones stay with whoever holds them.
    fn replace(&mut self, span: Span, bare: bool) -> Outcome {
        let part = self.chunk.part(span);
        let kernel = self.shared.kernel;
        let failed = |call| move |source| Refusal::Replace { call, source };
        let punched = kernel.read(&part).map_err(failed("read")).and_then(|contents| {
            kernel.punch(&part).map_err(failed("fallocate(FALLOC_FL_PUNCH_HOLE)")).map(|()| contents)
        });
        let contents = match punched {
            Ok(contents) => contents,
            Err(refusal) => return self.refused(refusal, None, None),
        };
        tracing::debug!(guest = %part.guest, "replacing pages that cannot be moved");
        let outcome = if bare { self.map(span, false) } else { self.pin(span) };
        // Whatever came of the pin. A hole reads as zeros as it is.
        if contents.iter().any(|byte| *byte != 0)
            && let Err(refusal) = kernel.write(&part, &contents).map_err(failed("write"))
        {
            self.note(Cause::Other, refusal);
            return Outcome::Refused(Cause::Other);
        }
        outcome
    }

    fn refused(&mut self, refusal: Refusal, before: Option<Vmstat>, memlock: Option<Memlock>) -> Outcome {
        let grown = self.shared.kernel.counters().zip(before).map(|(after, before)| after.since(&before));
        let error = refusal.io_error();
        let cause = Cause::classify(error, grown.as_ref(), memlock, self.shared.kernel.spare());
        tracing::debug!(guest = %self.chunk.guest, %cause, %error, "pinning refused");
        self.note(cause, refusal);
        Outcome::Refused(cause)
    }

    fn note(&mut self, cause: Cause, refusal: Refusal) {
        self.shared.retries.fetch_add(1, Ordering::Relaxed);
        self.refused = Some((cause, refusal));
    }

    /// The pages are counted while they are pinned for certain.
    fn release(&mut self, pagemap: &mut Option<Pagemap>) -> Tally {
        if self.shared.mapper.is_none() {
            self.shared.kernel.show(&self.chunk);
        }
        let counted = if self.shared.verify { count(self.shared, pagemap, &self.chunk) } else { None };
        self.pinners.release();
        counted.unwrap_or_else(|| {
            let mut tally = Tally::default();
            tally.add_hidden(self.chunk.guest.size / PAGE_SIZE);
            tally
        })
    }

    fn fail(self, unit: &Unit) -> PinError {
        // Whoever else works on other units goes on meanwhile, so this unit's pins go first.
        self.pinners.release();
        let Some((cause, refusal)) = self.refused else {
            return PinError::NoPinner { reason: self.pinners.passed_over().join("; ") };
        };
        let culprits: Vec<Chunk> = unit.culprits().into_iter().map(|span| self.chunk.part(span)).collect();
        let guest = match (culprits.first(), culprits.last()) {
            (Some(first), Some(last)) => {
                GuestRange::new(first.guest.start, last.guest.end() - first.guest.start)
            }
            _ => self.chunk.guest,
        };
        let seen = match cause {
            Cause::Migration { .. } | Cause::Stalled => self.shared.surveyor.census(&culprits).ok(),
            _ => None,
        };
        PinError::Refused {
            guest,
            culprits: culprits.iter().map(|culprit| culprit.guest).collect(),
            cause,
            attempts: unit.retries().saturating_add(1),
            elapsed: self.shared.since(self.started),
            census: seen.map(Box::new),
            holders: Vec::new(),
            refusal: Box::new(refusal),
        }
    }
}

fn count(shared: &Shared, pagemap: &mut Option<Pagemap>, chunk: &Chunk) -> Option<Tally> {
    pagemap.as_mut().and_then(|pagemap| shared.surveyor.count(pagemap, &[*chunk]).ok())
}
