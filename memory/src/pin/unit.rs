//! The core of the bring-up: what to do with a unit of RAM after each outcome. Pure, no system call and no clock, so
//! that any course of events can be played through in a test.
//!
//! ```text
//! Virgin    -> Pinning  --+--> Safe (trial pins hold all of it) -> Mapped -> Released
//! Populated -> Evicting --+
//!                 ^       |
//!                 |       +--> Stuck (culprits are looked for)
//!                 |       |
//!                 +-- Backoff (good parts stay pinned, only culprits are tried again, or replaced), or Failed
//! ```
//! A pin of many pages that is refused because of a few has moved all the others. So what is refused is narrowed down:
//! by a census where the host lets us see page frames, else by halving, in either case to culprits of [`SUB_UNIT`]
//! bytes. What is good is pinned and stays so. Culprits are tried again after 1, 2, 4 .. 250 ms; one that stays
//! busy has its pages replaced by new ones with the same contents, where that is allowed.
//!
//! Without a trial pin the DMA map is the pin: the same happens with smaller maps.
//!
//! Huge pages of a pool are taken from where they can be pinned, and where there are none left, the pin is refused, although
//! the pool has others. Those are taken then ([`Action::Populate`]), and moved as all that is populated.

use std::time::Duration;

use super::errors::Cause;
use super::plan::{SUB_UNIT, Span, coalesce, cut_span, without};

/// First and longest wait before another attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));
/// Refusals of a culprit after which root's means are used for it: most pass before.
const HELP_AFTER: u32 = 3;

/// Where a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Nothing has been done: none of its pages exist.
    Virgin,
    /// Nothing has been done: some of its pages exist.
    Populated,
    /// Being pinned, which allocates its pages where they can be pinned.
    Pinning,
    /// Being pinned, which moves its pages to where they can be pinned.
    Evicting,
    /// Refused; the culprits are being looked for.
    Stuck,
    /// Waiting before culprits are tried again.
    Backoff,
    /// All of it is held by trial pins, hence present and outside CMA and ZONE_MOVABLE.
    Safe,
    /// Mapped for the devices.
    Mapped,
    /// As far as it was to go, the trial pins given back.
    Released,
    /// Given up.
    Failed,
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The trial pin holds.
    Pinned,
    /// No trial pin is to be had, now or ever.
    NoTrial,
    /// Whoever held the trial pins is gone, and all of them with it.
    Lost {
        /// Because the call did not come back in time.
        stalled: bool,
    },
    /// The devices have it.
    Mapped,
    /// Where the culprits are, as far as can be seen; nothing if that cannot be seen.
    Located(Vec<Span>),
    /// The trial pins are given back.
    Released,
    /// It has pages, wherever they lie.
    Populated,
    /// The wait is over.
    Waited,
    /// Root has done what it may.
    Helped,
    /// The kernel refused.
    Refused(Cause),
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take a trial pin, beside those that hold.
    Pin(Span),
    /// Map for the devices.
    Map(Span),
    /// Find the sub-units with pages that can not be pinned.
    Locate(Span),
    /// Give the part new pages with the same contents, pinned as its old ones were to be. Success is reported as
    /// [`Outcome::Pinned`] or, without trial pins, [`Outcome::Mapped`].
    Replace(Span),
    /// Fault the part in, as any access would.
    Populate(Span),
    /// Use root's means for the part; it is tried again then.
    Help(Span),
    /// Give the trial pins back, if there are any.
    Release,
    /// Wait, then report [`Outcome::Waited`].
    Wait(Duration),
    /// The unit is done.
    Finish,
    /// The unit has failed; give back what it holds.
    Fail,
}

/// How long refusals are put up with, and what is done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How much time may be lost to refusals ([`Unit::loses_by`]) before it is given up.
    pub deadline: Duration,
    /// After how many refusals a culprit's pages are replaced; `None` while somebody may write to them.
    pub replace_after: Option<u32>,
    /// Whether root's means may be used for a culprit, once, before that.
    pub root_help: bool,
}

/// A unit before anything is done with it. Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct UnitSpec {
    /// All of it; it starts at a multiple of [`SUB_UNIT`] in the memfd.
    pub size: u64,
    /// The most that is pinned in one go where pages may have to be moved: meanwhile the kernel does not tell how far
    /// it is.
    pub step: u64,
    /// The most that is mapped in one go without a trial pin.
    pub bare: u64,
    /// Whether it is to be mapped.
    pub devices: bool,
    /// Whether the memlock limit covers the trial pins of others as well, which go.
    pub crowded: bool,
    /// Whether pages of it exist.
    pub populated: bool,
    /// Whether its pages are from a pool that may have some in CMA and ZONE_MOVABLE only.
    pub pool: bool,
    /// Varies the waits of units that are refused together.
    pub seed: u64,
}

/// What is being done with the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Trial pins, part by part.
    Trial,
    /// The map of the whole, under trial pins.
    Map,
    /// Maps without trial pins, part by part.
    Bare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    span: Span,
    /// Whether it has been tried, as part of something larger or by itself.
    tried: bool,
    /// Whether it was faulted in, for want of pages that can be pinned.
    populated: bool,
    refusals: u32,
    helped: bool,
    replaced: u32,
}

impl Piece {
    fn untried(span: Span) -> Self {
        Self { span, tried: false, populated: false, refusals: 0, helped: false, replaced: 0 }
    }

    fn tried(span: Span) -> Self {
        Self { tried: true, ..Self::untried(span) }
    }
}

/// One unit of RAM on its way.
#[derive(Clone, Debug)]
pub struct Unit {
    spec: UnitSpec,
    state: UnitState,
    phase: Phase,
    action: Action,
    /// What `action` is about.
    current: Option<Piece>,
    /// What is still to be pinned, next last.
    todo: Vec<Piece>,
    /// What has been refused and waits for its turn.
    stuck: Vec<Piece>,
    /// Parts that are done in this phase.
    held: Vec<Span>,
    rounds: u32,
    /// A call has stalled after the deadline, which its culprit's replacement was still tried for.
    overtime: bool,
    retries: u32,
    resolved: Vec<Resolved>,
}

/// A culprit that was pinned in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The part.
    pub span: Span,
    /// How often it was refused by itself.
    pub refusals: u32,
    /// Whether its pages were replaced; else whoever held them let go.
    pub replaced: bool,
}

impl Unit {
    /// A unit nothing has been done with.
    pub fn new(spec: UnitSpec) -> Self {
        let step = if spec.populated { spec.step } else { spec.size };
        Self {
            spec,
            state: if spec.populated { UnitState::Populated } else { UnitState::Virgin },
            phase: Phase::Trial,
            action: Action::Wait(Duration::ZERO),
            current: None,
            todo: steps(Span { start: 0, size: spec.size }, step),
            stuck: Vec::new(),
            held: Vec::new(),
            rounds: 0,
            overtime: false,
            retries: 0,
            resolved: Vec::new(),
        }
    }

    /// Where it stands.
    pub fn state(&self) -> UnitState {
        self.state
    }

    /// Attempts that were refused and made again.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// Culprits as they stand: what it is about when it fails.
    pub fn culprits(&self) -> Vec<Span> {
        coalesce(self.stuck.iter().chain(&self.current).map(|piece| piece.span).collect())
    }

    /// Former culprits.
    pub fn resolved(&self) -> &[Resolved] {
        &self.resolved
    }

    /// Whether it does without trial pins.
    pub fn is_bare(&self) -> bool {
        self.phase == Phase::Bare
    }

    /// Whether the time that led to `outcome`, which [`Self::step`] has yet to be told, is lost. Pins that hold are the
    /// work itself, and so is the first refusal of any part: it has moved all it could.
    pub fn loses_by(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Pinned | Outcome::Mapped | Outcome::Populated | Outcome::Released | Outcome::NoTrial => {
                false
            }
            Outcome::Refused(_) => self.current.is_none_or(|piece| piece.tried),
            Outcome::Located(_) | Outcome::Lost { .. } | Outcome::Waited | Outcome::Helped => true,
        }
    }

    /// The first action.
    pub fn start(&mut self) -> Action {
        self.attempt_next(Duration::ZERO, Duration::ZERO)
    }

    /// The next action, given what came of the last one. `lost`: time lost to refusals so far, on other units too.
    pub fn step(&mut self, outcome: Outcome, lost: Duration, policy: &RetryPolicy) -> Action {
        let attempting = matches!(self.action, Action::Pin(_) | Action::Map(_) | Action::Replace(_));
        match (self.action, outcome) {
            (Action::Pin(_) | Action::Replace(_), Outcome::Pinned) if self.phase == Phase::Trial => {
                self.done(lost, policy)
            }
            (Action::Map(_) | Action::Replace(_), Outcome::Mapped) if self.phase != Phase::Trial => {
                self.done(lost, policy)
            }
            (Action::Pin(_) | Action::Map(_) | Action::Replace(_), Outcome::NoTrial)
                if self.spec.devices && self.phase != Phase::Bare =>
            {
                self.go_bare(lost, policy)
            }
            (_, Outcome::Lost { stalled }) if attempting && self.phase != Phase::Bare => {
                self.lost(stalled, lost, policy)
            }
            (Action::Pin(span) | Action::Map(span), Outcome::Refused(Cause::Unbacked))
                if self.may_populate() =>
            {
                self.reach(UnitState::Stuck, Action::Populate(span))
            }
            (Action::Populate(_), Outcome::Populated) => self.evict(lost, policy),
            (_, Outcome::Refused(cause)) if attempting => self.refused(cause, lost, policy),
            (Action::Locate(_), Outcome::Located(culprits)) => self.narrow(&culprits, lost, policy),
            (Action::Help(_), Outcome::Helped) => {
                self.todo.extend(self.current.take());
                self.attempt_next(lost, policy.deadline)
            }
            (Action::Wait(_), Outcome::Waited) => {
                self.todo.append(&mut self.stuck);
                self.attempt_next(lost, policy.deadline)
            }
            (Action::Release, Outcome::Released) => self.reach(UnitState::Released, Action::Finish),
            _ => self.fail(),
        }
    }

    /// Whether the pool may have other pages for the current part.
    fn may_populate(&self) -> bool {
        self.spec.pool && self.phase != Phase::Map && self.current.is_some_and(|piece| !piece.populated)
    }

    /// The current part has pages, which may have to be moved: it is pinned in steps.
    fn evict(&mut self, lost: Duration, policy: &RetryPolicy) -> Action {
        let Some(Piece { span, .. }) = self.current.take() else { return self.fail() };
        self.spec.populated = true;
        let step = if self.phase == Phase::Bare { self.spec.bare } else { self.spec.step };
        self.todo.extend(steps(span, step).into_iter().map(|piece| Piece { populated: true, ..piece }));
        self.attempt_next(lost, policy.deadline)
    }

    /// The current part is pinned (or mapped).
    fn done(&mut self, lost: Duration, policy: &RetryPolicy) -> Action {
        let Some(piece) = self.current.take() else { return self.fail() };
        let replaced = matches!(self.action, Action::Replace(_));
        if piece.refusals > 0 {
            self.resolved.push(Resolved { span: piece.span, refusals: piece.refusals, replaced });
        }
        if self.phase == Phase::Map {
            return self.reach(UnitState::Mapped, Action::Release);
        }
        self.held.push(piece.span);
        self.attempt_next(lost, policy.deadline)
    }

    /// On with what is to be done; when only culprits are left, with a wait.
    fn attempt_next(&mut self, lost: Duration, deadline: Duration) -> Action {
        if let Some(piece) = self.todo.pop() {
            self.current = Some(piece);
            let state = if self.spec.populated { UnitState::Evicting } else { UnitState::Pinning };
            return match self.phase {
                Phase::Trial => self.reach(state, Action::Pin(piece.span)),
                Phase::Bare => self.reach(state, Action::Map(piece.span)),
                Phase::Map => self.reach(UnitState::Safe, Action::Map(piece.span)),
            };
        }
        if !self.stuck.is_empty() {
            let left = deadline.saturating_sub(lost);
            let wait = backoff(self.rounds, self.spec.seed).min(left);
            self.rounds = self.rounds.saturating_add(1);
            return self.reach(UnitState::Backoff, Action::Wait(wait));
        }
        let whole = Span { start: 0, size: self.spec.size };
        match self.phase {
            Phase::Trial if self.spec.devices => {
                self.phase = Phase::Map;
                self.current = Some(Piece::untried(whole));
                self.reach(UnitState::Safe, Action::Map(whole))
            }
            Phase::Trial => self.reach(UnitState::Safe, Action::Release),
            Phase::Bare => self.reach(UnitState::Mapped, Action::Release),
            Phase::Map => self.fail(),
        }
    }

    fn refused(&mut self, cause: Cause, lost: Duration, policy: &RetryPolicy) -> Action {
        let late = lost >= policy.deadline;
        let crowded = self.spec.crowded && self.is_bare() && matches!(cause, Cause::Memlock(_));
        let passes = cause.is_transient() || crowded;
        let Some(mut piece) = self.current.filter(|_| passes) else { return self.fail() };
        piece.tried = true;
        self.retries = self.retries.saturating_add(1);
        if crowded && !late {
            piece.refusals = piece.refusals.saturating_add(1);
            return self.set_aside(piece, lost, policy);
        }
        if cause == Cause::Interrupted && !late {
            self.todo.push(piece);
            self.current = None;
            return self.reach(UnitState::Backoff, Action::Wait(Duration::ZERO));
        }
        // Under trial pins nothing has to move, so there is nothing to look for: it can only pass.
        let divisible = self.phase != Phase::Map && piece.span.size > SUB_UNIT;
        if divisible && !late {
            return self.reach(UnitState::Stuck, Action::Locate(piece.span));
        }
        piece.refusals = piece.refusals.saturating_add(1);
        if matches!(self.action, Action::Replace(_)) {
            piece.replaced = piece.replaced.saturating_add(1);
        }
        let help = !crowded
            && policy.root_help
            && !piece.helped
            && piece.refusals >= HELP_AFTER
            && self.phase != Phase::Map;
        piece.helped |= help;
        self.current = Some(piece);
        if help {
            return self.reach(UnitState::Stuck, Action::Help(piece.span));
        }
        if !crowded && self.may_replace(&piece, late, policy) {
            return self.reach(UnitState::Stuck, Action::Replace(piece.span));
        }
        if late {
            return self.fail();
        }
        self.set_aside(piece, lost, policy)
    }

    /// Tries the rest, and this again later.
    fn set_aside(&mut self, piece: Piece, lost: Duration, policy: &RetryPolicy) -> Action {
        self.stuck.push(piece);
        self.current = None;
        self.attempt_next(lost, policy.deadline)
    }

    /// Each replacement takes as many refusals again; at the deadline one is tried if none was.
    fn may_replace(&self, piece: &Piece, late: bool, policy: &RetryPolicy) -> bool {
        let Some(after) = policy.replace_after else { return false };
        let due = after.max(1).saturating_mul(piece.replaced.saturating_add(1));
        let possible = self.phase != Phase::Map && piece.span.size <= SUB_UNIT;
        possible && if late { piece.replaced == 0 } else { piece.refusals >= due }
    }

    /// Sets culprits aside, goes on with the rest. Without any that make sense: halves.
    fn narrow(&mut self, culprits: &[Span], lost: Duration, policy: &RetryPolicy) -> Action {
        let Some(piece) = self.current.take() else { return self.fail() };
        let subs = cut_span(piece.span, SUB_UNIT);
        let hit =
            |sub: &Span| culprits.iter().any(|c| c.size > 0 && c.start < sub.end() && sub.start < c.end());
        let bad: Vec<Span> = subs.iter().copied().filter(hit).collect();
        if bad.is_empty() {
            self.halve(piece.span);
            return self.attempt_next(lost, policy.deadline);
        }
        let good = without(piece.span, &bad);
        self.todo.extend(good.into_iter().rev().map(Piece::tried));
        self.stuck.extend(bad.into_iter().map(|span| Piece { refusals: 1, ..Piece::tried(span) }));
        self.attempt_next(lost, policy.deadline)
    }

    fn halve(&mut self, span: Span) {
        let half = (span.size / 2).next_multiple_of(SUB_UNIT);
        self.todo.extend(cut_span(span, half).into_iter().rev().map(Piece::tried));
    }

    /// Starts over with what was pinned; what the call stalled on is narrowed down, too.
    fn lost(&mut self, stalled: bool, lost: Duration, policy: &RetryPolicy) -> Action {
        let Some(mut piece) = self.current.take() else { return self.fail() };
        let late = lost >= policy.deadline;
        self.retries = self.retries.saturating_add(1);
        // Each stall costs as much as a hundred refusals: one more is put up with, however many culprits are left.
        if late && (!stalled || piece.span.size > SUB_UNIT || std::mem::replace(&mut self.overtime, true)) {
            return self.fail_with(piece);
        }
        if !stalled && self.phase != Phase::Map {
            self.todo.push(piece);
        }
        let again = coalesce(std::mem::take(&mut self.held));
        self.todo.extend(again.into_iter().rev().map(Piece::tried));
        if !stalled || self.phase == Phase::Map {
            self.phase = Phase::Trial;
            return self.attempt_next(lost, policy.deadline);
        }
        if piece.span.size > SUB_UNIT {
            self.current = Some(piece);
            return self.reach(UnitState::Stuck, Action::Locate(piece.span));
        }
        piece.refusals = piece.refusals.max(policy.replace_after.unwrap_or(0)).saturating_add(1);
        if matches!(self.action, Action::Replace(_)) {
            piece.replaced = piece.replaced.saturating_add(1);
        }
        if self.may_replace(&piece, late, policy) {
            self.current = Some(piece);
            return self.reach(UnitState::Stuck, Action::Replace(piece.span));
        }
        if late {
            return self.fail_with(piece);
        }
        self.stuck.push(piece);
        self.attempt_next(lost, policy.deadline)
    }

    /// The DMA map has to pin, in smaller steps: a refused map gets no further than its first culprit.
    fn go_bare(&mut self, lost: Duration, policy: &RetryPolicy) -> Action {
        self.phase = Phase::Bare;
        self.current = None;
        self.stuck.clear();
        self.held.clear();
        self.todo = steps(Span { start: 0, size: self.spec.size }, self.spec.bare);
        self.attempt_next(lost, policy.deadline)
    }

    fn fail_with(&mut self, piece: Piece) -> Action {
        self.current = Some(piece);
        self.fail()
    }

    fn fail(&mut self) -> Action {
        self.reach(UnitState::Failed, Action::Fail)
    }

    fn reach(&mut self, state: UnitState, action: Action) -> Action {
        self.state = state;
        self.action = action;
        action
    }
}

/// Cuts a part of a unit into parts of `step` bytes, the first last.
fn steps(span: Span, step: u64) -> Vec<Piece> {
    let step = step.next_multiple_of(SUB_UNIT).max(SUB_UNIT);
    cut_span(span, step).into_iter().rev().map(Piece::untried).collect()
}

/// Doubles from 1 ms to 250 ms, less up to a quarter by which units refused together drift apart.
fn backoff(rounds: u32, seed: u64) -> Duration {
    let full = BACKOFF.0.saturating_mul(1 << rounds.min(16)).min(BACKOFF.1);
    // splitmix64's finaliser: enough to scatter a few waits.
    let mut x = seed.wrapping_add(u64::from(rounds).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let quarter = full.as_micros() as u64 / 4;
    full - Duration::from_micros((x ^ (x >> 31)) % (quarter + 1))
}

#[cfg(test)]
#[path = "unit_model_test.rs"]
mod model;
#[cfg(test)]
#[path = "unit_test.rs"]
mod tests;
