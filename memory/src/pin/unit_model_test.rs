use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{POLICY, STALL, STUCK, span, spec};
use super::*;
use crate::bytes::{GIB, MIB};

/// A sub-unit as the scripted kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sub {
    /// Can be pinned.
    Good,
    /// Is refused until this many milliseconds have passed.
    Held(u64),
    /// Is refused until its pages are replaced.
    Forever,
    /// Stalls whoever pins it until its pages are replaced.
    Stalls,
}

/// What the kernel and the helper do, sub-unit by sub-unit.
#[derive(Clone, Debug)]
struct Script {
    subs: Vec<Sub>,
    /// Whether a census shows culprits.
    sighted: bool,
    /// The census names anything at all.
    lies: bool,
    /// Calls after which the helper dies.
    deaths: Vec<u8>,
    replace: bool,
    root_help: bool,
    no_trial: bool,
}

fn script() -> impl Strategy<Value = Script> {
    let sub = prop_oneof![
        12 => Just(Sub::Good),
        3 => (1..3000u64).prop_map(Sub::Held),
        1 => Just(Sub::Forever),
        1 => Just(Sub::Stalls),
    ];
    let subs = proptest::collection::vec(sub, 1..24);
    (
        subs,
        any::<bool>(),
        any::<bool>(),
        proptest::collection::vec(0..40u8, 0..3),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(subs, sighted, lies, deaths, replace, root_help, no_trial)| Script {
            subs,
            sighted,
            lies,
            deaths,
            replace,
            root_help,
            no_trial,
        })
}

struct Model {
    script: Script,
    subs: Vec<Sub>,
    now: Duration,
    held: BTreeMap<u64, u64>,
    mapped: BTreeMap<u64, u64>,
    calls: u8,
    bare: bool,
}

impl Model {
    fn range(span: Span) -> std::ops::Range<usize> {
        (span.start / SUB_UNIT) as usize..span.end().div_ceil(SUB_UNIT) as usize
    }

    fn covers(map: &BTreeMap<u64, u64>, sub: usize) -> bool {
        let at = sub as u64 * SUB_UNIT;
        map.range(..=at).next_back().is_some_and(|(_, end)| at < *end)
    }

    fn pin(&mut self, span: Span) -> Outcome {
        if self.script.no_trial {
            self.bare = true;
            return Outcome::NoTrial;
        }
        self.calls = self.calls.saturating_add(1);
        if self.script.deaths.contains(&self.calls) {
            self.held.clear();
            return Outcome::Lost { stalled: false };
        }
        match self.attempt(span) {
            Outcome::Mapped => {
                assert_eq!(self.held.insert(span.start, span.end()), None, "pinned twice");
                Outcome::Pinned
            }
            lost @ Outcome::Lost { .. } => {
                self.held.clear();
                lost
            }
            refused => refused,
        }
    }

    fn attempt(&mut self, span: Span) -> Outcome {
        let subs = &self.subs[Self::range(span)];
        let busy = |sub: &Sub| match sub {
            Sub::Good | Sub::Stalls => false,
            Sub::Held(until) => self.now < Duration::from_millis(*until),
            Sub::Forever => true,
        };
        // A map that is made in this process is not killed, so the script has none of that.
        if !self.bare && subs.contains(&Sub::Stalls) {
            self.now += STALL;
            Outcome::Lost { stalled: true }
        } else if subs.iter().any(busy) {
            Outcome::Refused(STUCK)
        } else {
            Outcome::Mapped
        }
    }

    fn map(&mut self, span: Span) -> Outcome {
        if !self.bare {
            assert!(Self::range(span).all(|sub| Self::covers(&self.held, sub)), "mapped unpinned");
        } else if let refused @ Outcome::Refused(_) = self.attempt(span) {
            return refused;
        }
        assert_eq!(self.mapped.insert(span.start, span.end()), None, "mapped twice");
        Outcome::Mapped
    }

    fn locate(&self, at: Span) -> Vec<Span> {
        if self.script.lies {
            return vec![span(3, 1), Span { start: at.end(), size: GIB }, Span { start: at.start, size: 0 }];
        }
        let bad = |sub: &usize| self.script.sighted && !matches!(self.subs[*sub], Sub::Good);
        let at = Self::range(at).filter(bad).map(|sub| sub as u64 * SUB_UNIT);
        at.map(|start| Span { start, size: SUB_UNIT }).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the kernel does: nothing is mapped unpinned or twice, good parts stay pinned while culprits are waited
    /// for, it ends soon after the deadline, and what can be had is had.
    #[test]
    fn any_kernel(script in script()) {
        let size = script.subs.len() as u64 * SUB_UNIT - 4096;
        let policy = RetryPolicy {
            replace_after: script.replace.then_some(3), root_help: script.root_help, ..POLICY
        };
        let mut unit = Unit::new(spec(size, true));
        let mut model = Model {
            subs: script.subs.clone(), script, now: Duration::ZERO, held: BTreeMap::new(),
            mapped: BTreeMap::new(), calls: 0, bare: false,
        };
        let mut lost = Duration::ZERO;
        let mut action = unit.start();
        for step in 0.. {
            prop_assert!(step < 20_000, "does not end");
            let begun = model.now;
            let outcome = match action {
                Action::Pin(span) => {
                    model.now += Duration::from_micros(50);
                    model.pin(span)
                }
                Action::Map(span) => model.map(span),
                Action::Locate(span) => Outcome::Located(model.locate(span)),
                Action::Replace(span) => {
                    prop_assert!(policy.replace_after.is_some() && span.size <= SUB_UNIT);
                    model.subs[Model::range(span).start] = Sub::Good;
                    if model.bare { model.map(span) } else { model.pin(span) }
                }
                Action::Wait(wait) => {
                    if wait > Duration::ZERO && !model.bare {
                        for sub in 0..model.subs.len() {
                            let good = matches!(model.script.subs[sub], Sub::Good);
                            prop_assert!(!good || model.script.lies || Model::covers(&model.held, sub), "{sub} is let go");
                        }
                    }
                    model.now += wait;
                    Outcome::Waited
                }
                Action::Help(_) => {
                    prop_assert!(policy.root_help);
                    Outcome::Helped
                }
                Action::Populate(_) => unreachable!("there is no pool"),
                Action::Release => Outcome::Released,
                Action::Finish | Action::Fail => break,
            };
            if unit.loses_by(&outcome) {
                lost += model.now - begun;
            }
            prop_assert!(lost <= policy.deadline + Duration::from_secs(1));
            action = unit.step(outcome, lost, &policy);
        }
        let forever = model.script.subs.iter().any(|sub| match sub {
            Sub::Forever => true,
            Sub::Stalls => !model.bare,
            Sub::Good | Sub::Held(_) => false,
        });
        if lost < policy.deadline || !forever {
            prop_assert_eq!(action, Action::Finish);
            for sub in 0..model.subs.len() {
                prop_assert!(Model::covers(&model.mapped, sub), "{} is not mapped", sub);
            }
        } else if action == Action::Fail {
            prop_assert!(!unit.culprits().is_empty());
        }
    }

    /// Outcomes that make no sense end in failure or go on, and never in a map of what is not pinned.
    #[test]
    fn no_course_of_events_maps_what_is_not_pinned(
        devices: bool,
        pool: bool,
        outcomes in proptest::collection::vec(outcome(), 1..60),
    ) {
        let mut unit = Unit::new(UnitSpec { pool, ..spec(8 * MIB, devices) });
        let (mut safe, mut mapped) = (false, false);
        let mut last = unit.start();
        for outcome in outcomes {
            safe |= matches!((last, &outcome), (Action::Pin(_) | Action::Replace(_), Outcome::Pinned | Outcome::NoTrial));
            mapped |= matches!((last, &outcome), (Action::Map(_) | Action::Replace(_), Outcome::Mapped));
            last = unit.step(outcome, Duration::ZERO, &POLICY);
            match last {
                Action::Map(_) => prop_assert!(devices && safe),
                Action::Finish => prop_assert!(mapped || !devices),
                Action::Fail => prop_assert_eq!(unit.state(), UnitState::Failed),
                _ => (),
            }
            if matches!(last, Action::Finish | Action::Fail) {
                break;
            }
        }
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Pinned),
        1 => Just(Outcome::NoTrial),
        2 => Just(Outcome::Mapped),
        1 => Just(Outcome::Released),
        4 => Just(Outcome::Waited),
        1 => any::<bool>().prop_map(|stalled| Outcome::Lost { stalled }),
        4 => Just(Outcome::Refused(STUCK)),
        1 => Just(Outcome::Refused(Cause::NoMemory)),
        1 => Just(Outcome::Refused(Cause::Unbacked)),
        1 => Just(Outcome::Populated),
        2 => proptest::collection::vec((any::<u64>(), any::<u64>()), 0..3).prop_map(|spans| {
            Outcome::Located(spans.into_iter().map(|(start, size)| Span { start, size }).collect())
        }),
    ]
}
