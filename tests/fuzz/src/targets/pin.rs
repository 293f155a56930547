//! The state machine of pinning, under a kernel that does what the input says: pins that hold, pages that are held for a while or
//! for good, calls that stall, helpers that die, a census that lies.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use memory::pin::Cause;
use memory::pin::plan::{SUB_UNIT, Span};
use memory::pin::unit::{Action, Outcome, RetryPolicy, Unit, UnitSpec};

use crate::Input;

/// Steps after which it does not end.
const MOST_STEPS: usize = 20_000;
/// What a call that stalls costs.
const STALL: Duration = Duration::from_millis(500);
const STUCK: Outcome = Outcome::Refused(Cause::Migration { pages: 1 });

/// A sub-unit as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sub {
    Good,
    /// Refused until so many milliseconds have passed.
    Held(u64),
    /// Refused until its pages are replaced.
    Forever,
    /// Stalls whoever pins it, until its pages are replaced.
    Stalls,
}

struct Kernel<'a> {
    subs: Vec<Sub>,
    sighted: bool,
    lies: bool,
    no_trial: bool,
    /// Whether the helper lives through the next call.
    fates: Input<'a>,
    now: Duration,
    held: BTreeMap<u64, u64>,
    mapped: BTreeMap<u64, u64>,
    bare: bool,
}

fn subs_of(span: Span) -> Range<usize> {
    (span.start / SUB_UNIT) as usize..span.end().div_ceil(SUB_UNIT) as usize
}

fn covers(map: &BTreeMap<u64, u64>, sub: usize) -> bool {
    let at = sub as u64 * SUB_UNIT;
    map.range(..=at).next_back().is_some_and(|(_, end)| at < *end)
}

impl Kernel<'_> {
    fn attempt(&mut self, span: Span) -> Outcome {
        self.now += Duration::from_micros(50);
        let subs = &self.subs[subs_of(span)];
        let busy = |sub: &Sub| match sub {
            Sub::Good | Sub::Stalls => false,
            Sub::Held(until) => self.now < Duration::from_millis(*until),
            Sub::Forever => true,
        };
        if !self.bare && subs.contains(&Sub::Stalls) {
            self.now += STALL;
            Outcome::Lost { stalled: true }
        } else if subs.iter().any(busy) {
            STUCK
        } else {
            Outcome::Mapped
        }
    }

    fn pin(&mut self, span: Span) -> Outcome {
        if self.no_trial {
            self.bare = true;
            return Outcome::NoTrial;
        }
        let outcome =
            if self.fates.byte() == 0xff { Outcome::Lost { stalled: false } } else { self.attempt(span) };
        match outcome {
            Outcome::Mapped => {
                assert_eq!(self.held.insert(span.start, span.end()), None, "pinned twice");
                Outcome::Pinned
            }
            Outcome::Lost { .. } => {
                self.held.clear();
                outcome
            }
            refused => refused,
        }
    }

    fn map(&mut self, span: Span) -> Outcome {
        if !self.bare {
            assert!(subs_of(span).all(|sub| covers(&self.held, sub)), "mapped unpinned");
        } else if let refused @ Outcome::Refused(_) = self.attempt(span) {
            return refused;
        }
        assert_eq!(self.mapped.insert(span.start, span.end()), None, "mapped twice");
        Outcome::Mapped
    }

    fn locate(&mut self, at: Span) -> Vec<Span> {
        if self.lies {
            let mut span = || Span { start: self.fates.qword(), size: self.fates.qword() };
            return vec![span(), Span { start: at.start, size: 0 }, span()];
        }
        let bad = |sub: &usize| self.sighted && self.subs[*sub] != Sub::Good;
        subs_of(at).filter(bad).map(|sub| Span { start: sub as u64 * SUB_UNIT, size: SUB_UNIT }).collect()
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (how, more, count) = (input.byte(), input.byte(), usize::from(input.byte() % 32) + 1);
    let subs = (0..count).map(|_| match (input.byte(), input.word()) {
        (0..0xc0, _) => Sub::Good,
        (0xc0..0xf0, until) => Sub::Held(u64::from(until) % 3000),
        (0xf0..0xf8, _) => Sub::Forever,
        _ => Sub::Stalls,
    });
    let subs: Vec<Sub> = subs.collect();
    let size = count as u64 * SUB_UNIT - u64::from(how & 1) * 4096;
    let has = |bit: u8| how >> bit & 1 != 0;
    let spec = UnitSpec {
        size,
        step: SUB_UNIT << (more & 7),
        bare: SUB_UNIT << (more >> 3 & 3),
        devices: !has(6) || has(5),
        crowded: more >> 5 & 1 != 0,
        populated: has(7),
        pool: false,
        seed: more.into(),
    };
    let deadline = Duration::from_secs(10);
    let policy = RetryPolicy { deadline, replace_after: has(1).then_some(3), root_help: has(2) };
    let mut kernel = Kernel {
        subs,
        sighted: has(3),
        lies: has(4),
        no_trial: has(5),
        fates: input,
        now: Duration::ZERO,
        held: BTreeMap::new(),
        mapped: BTreeMap::new(),
        bare: false,
    };
    follow(&mut Unit::new(spec), &mut kernel, &policy, spec.devices);
}

fn follow(unit: &mut Unit, kernel: &mut Kernel, policy: &RetryPolicy, devices: bool) {
    let mut lost = Duration::ZERO;
    let mut action = unit.start();
    for step in 0.. {
        assert!(step < MOST_STEPS, "does not end");
        let begun = kernel.now;
        let outcome = match action {
            Action::Pin(span) => kernel.pin(span),
            Action::Map(span) => kernel.map(span),
            Action::Locate(span) => Outcome::Located(kernel.locate(span)),
            Action::Populate(_) => unreachable!("there is no pool"),
            Action::Replace(span) => {
                assert!(policy.replace_after.is_some() && span.size <= SUB_UNIT, "pages are replaced");
                kernel.subs[subs_of(span).start] = Sub::Good;
                if kernel.bare { kernel.map(span) } else { kernel.pin(span) }
            }
            Action::Wait(wait) => {
                kernel.now += wait;
                Outcome::Waited
            }
            Action::Help(_) => {
                assert!(policy.root_help, "root's means are used");
                Outcome::Helped
            }
            Action::Release => Outcome::Released,
            Action::Finish | Action::Fail => break,
        };
        if unit.loses_by(&outcome) {
            lost += kernel.now - begun;
        }
        assert!(lost <= policy.deadline + Duration::from_secs(1), "it is tried beyond the deadline");
        action = unit.step(outcome, lost, policy);
    }
    if action == Action::Finish && devices {
        assert!((0..kernel.subs.len()).all(|sub| covers(&kernel.mapped, sub)), "not all of it is mapped");
    }
}
