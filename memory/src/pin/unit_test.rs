use super::super::privilege::Memlock;
use super::*;
use crate::bytes::{GIB, MIB};

pub(super) const POLICY: RetryPolicy =
    RetryPolicy { deadline: Duration::from_secs(10), replace_after: Some(3), root_help: false };
const PATIENT: RetryPolicy = RetryPolicy { replace_after: None, ..POLICY };
/// What a stalled call costs before it is ended.
pub(super) const STALL: Duration = Duration::from_millis(500);
pub(super) const STUCK: Cause = Cause::Migration { pages: 1 };

pub(super) fn spec(size: u64, devices: bool) -> UnitSpec {
    UnitSpec {
        size,
        step: 16 * MIB,
        bare: 8 * MIB,
        devices,
        crowded: false,
        populated: true,
        pool: false,
        seed: 1,
    }
}

pub(super) fn span(start: u64, size: u64) -> Span {
    Span { start: start * MIB, size: size * MIB }
}

fn play(devices: bool, outcomes: &[Outcome]) -> (Vec<Action>, UnitState) {
    let mut unit = Unit::new(spec(16 * MIB, devices));
    let mut actions = vec![unit.start()];
    actions.extend(outcomes.iter().map(|outcome| unit.step(outcome.clone(), Duration::ZERO, &PATIENT)));
    (actions, unit.state())
}

#[test]
fn the_usual_course() {
    use Outcome::{Mapped, Pinned, Released};
    let whole = span(0, 16);
    let (actions, state) = play(true, &[Pinned, Mapped, Released]);
    let expected = [Action::Pin(whole), Action::Map(whole), Action::Release, Action::Finish];
    assert_eq!((actions.as_slice(), state), (&expected[..], UnitState::Released));
    let (actions, state) = play(false, &[Pinned, Released]);
    let expected = [Action::Pin(whole), Action::Release, Action::Finish];
    assert_eq!((actions.as_slice(), state), (&expected[..], UnitState::Released));
}

#[test]
fn fresh_and_populated_units_are_told_apart() {
    for (populated, before, after) in
        [(true, UnitState::Populated, UnitState::Evicting), (false, UnitState::Virgin, UnitState::Pinning)]
    {
        let mut unit = Unit::new(UnitSpec { populated, ..spec(GIB, true) });
        assert_eq!(unit.state(), before);
        unit.start();
        assert_eq!(unit.state(), after);
    }
}

#[test]
fn without_a_trial_pin_the_maps_are_the_pin() {
    use Outcome::{Mapped, NoTrial, Released};
    let mut unit = Unit::new(UnitSpec { populated: false, ..spec(16 * MIB, true) });
    assert_eq!(unit.start(), Action::Pin(span(0, 16)));
    for (outcome, action) in [
        (NoTrial, Action::Map(span(0, 8))),
        (Mapped, Action::Map(span(8, 8))),
        (Mapped, Action::Release),
        (Released, Action::Finish),
    ] {
        assert_eq!(unit.step(outcome, Duration::ZERO, &PATIENT), action);
    }
    assert_eq!(play(false, &[NoTrial]), (vec![Action::Pin(span(0, 16)), Action::Fail], UnitState::Failed));
}

#[test]
fn what_may_have_to_be_moved_is_pinned_step_by_step() {
    let mut unit = Unit::new(spec(40 * MIB, true));
    assert_eq!(unit.start(), Action::Pin(span(0, 16)));
    for action in [span(16, 16), span(32, 8)].map(Action::Pin) {
        assert_eq!(unit.step(Outcome::Pinned, Duration::ZERO, &PATIENT), action);
    }
    assert_eq!(unit.step(Outcome::Pinned, Duration::ZERO, &PATIENT), Action::Map(span(0, 40)));
}

#[test]
fn pages_that_a_pool_has_in_cma_are_taken_and_moved() {
    use Outcome::{Mapped, Pinned, Populated, Refused, Released};
    let fresh = UnitSpec { populated: false, pool: true, ..spec(40 * MIB, true) };
    let play = |spec, outcomes: &[(Outcome, Action)]| {
        let mut unit = Unit::new(spec);
        assert_eq!(unit.start(), Action::Pin(span(0, 40)));
        for (outcome, action) in outcomes {
            assert_eq!(unit.step(outcome.clone(), Duration::ZERO, &PATIENT), *action);
        }
    };
    let unbacked = Refused(Cause::Unbacked);
    let populate = (unbacked.clone(), Action::Populate(span(0, 40)));
    play(
        fresh,
        &[
            populate.clone(),
            (Populated, Action::Pin(span(0, 16))),
            (Pinned, Action::Pin(span(16, 16))),
            (Pinned, Action::Pin(span(32, 8))),
            (Pinned, Action::Map(span(0, 40))),
            (Mapped, Action::Release),
            (Released, Action::Finish),
        ],
    );
    // It helps once at the most, and only where there is a pool.
    play(fresh, &[populate.clone(), (unbacked.clone(), Action::Fail)]);
    play(fresh, &[populate, (Populated, Action::Pin(span(0, 16))), (unbacked.clone(), Action::Fail)]);
    play(UnitSpec { pool: false, ..fresh }, &[(unbacked, Action::Fail)]);
}

#[test]
fn a_first_refusal_moves_pages_and_later_ones_lose_time() {
    let mut unit = Unit::new(spec(32 * MIB, true));
    let refused = Outcome::Refused(STUCK);
    unit.start();
    assert!(!unit.loses_by(&refused) && !unit.loses_by(&Outcome::Pinned));
    assert!(unit.loses_by(&Outcome::Lost { stalled: true }));
    unit.step(refused.clone(), Duration::ZERO, &PATIENT);
    assert!(unit.loses_by(&Outcome::Located(vec![])));
    unit.step(Outcome::Located(vec![]), Duration::ZERO, &PATIENT);
    assert!(unit.loses_by(&refused), "a half of what was refused");
}

#[test]
fn culprits_are_set_aside_and_the_rest_is_pinned_first() {
    use Outcome::{Located, Mapped, Pinned, Refused, Waited};
    let outcomes = [Refused(STUCK), Located(vec![span(4, 2), span(10, 2)]), Pinned, Pinned, Pinned];
    let (actions, state) = play(true, &outcomes);
    assert_eq!(actions[1], Action::Locate(span(0, 16)));
    assert_eq!(actions[2..5], [Action::Pin(span(0, 4)), Action::Pin(span(6, 4)), Action::Pin(span(12, 4))]);
    assert!(matches!(actions[5], Action::Wait(wait) if wait <= Duration::from_millis(1)), "{actions:?}");
    assert_eq!(state, UnitState::Backoff);
    let outcomes = [outcomes.as_slice(), &[Waited, Pinned, Refused(STUCK), Waited, Pinned, Mapped]].concat();
    let (actions, state) = play(true, &outcomes);
    assert!(matches!(actions[8], Action::Wait(wait) if wait > Duration::from_millis(1)), "{actions:?}");
    assert_eq!((actions[10], state), (Action::Map(span(0, 16)), UnitState::Mapped));
}

#[test]
fn without_a_census_it_is_halved() {
    use Outcome::{Located, Pinned, Refused};
    let nowhere = || Located(vec![]);
    let outcomes = [Refused(STUCK), nowhere(), Pinned, Refused(STUCK), nowhere(), Refused(STUCK), nowhere()];
    let (actions, _) = play(true, &outcomes);
    let pins: Vec<Action> =
        actions.into_iter().filter(|action| matches!(action, Action::Pin(_))).skip(1).collect();
    let expected = [span(0, 8), span(8, 8), span(8, 4), span(8, 2)].map(Action::Pin);
    assert_eq!(pins, expected);
}

#[test]
fn a_culprit_that_stays_busy_is_replaced() {
    let mut unit = Unit::new(spec(2 * MIB, true));
    let mut action = unit.start();
    let mut waits = 0;
    while !matches!(action, Action::Replace(_)) {
        let outcome = match action {
            Action::Pin(_) => Outcome::Refused(STUCK),
            Action::Wait(_) => Outcome::Waited,
            other => panic!("{other:?}"),
        };
        waits += u32::from(outcome == Outcome::Waited);
        action = unit.step(outcome, Duration::ZERO, &POLICY);
    }
    assert_eq!((waits, action), (2, Action::Replace(span(0, 2))));
    assert_eq!(unit.step(Outcome::Pinned, Duration::ZERO, &POLICY), Action::Map(span(0, 2)));
    assert_eq!(unit.resolved(), [Resolved { span: span(0, 2), refusals: 3, replaced: true }]);
}

#[test]
fn root_helps_once_before_anything_is_replaced() {
    let policy = RetryPolicy { replace_after: Some(6), root_help: true, ..POLICY };
    let mut unit = Unit::new(spec(2 * MIB, true));
    let mut action = unit.start();
    let mut course = Vec::new();
    while !matches!(action, Action::Replace(_)) {
        let outcome = match action {
            Action::Pin(_) => Outcome::Refused(STUCK),
            Action::Wait(_) => Outcome::Waited,
            Action::Help(span) => {
                assert_eq!(span, self::span(0, 2));
                Outcome::Helped
            }
            other => panic!("{other:?}"),
        };
        course.push(outcome.clone());
        action = unit.step(outcome, Duration::ZERO, &policy);
    }
    assert_eq!(course.iter().filter(|outcome| **outcome == Outcome::Helped).count(), 1);
    let helped = course.iter().position(|outcome| *outcome == Outcome::Helped).unwrap();
    let refusals =
        |part: &[Outcome]| part.iter().filter(|outcome| **outcome == Outcome::Refused(STUCK)).count();
    assert_eq!((refusals(&course[..helped]), refusals(&course[helped..])), (3, 3));
}

#[test]
fn what_is_refused_at_the_deadline_is_replaced_once_or_fails() {
    let late = POLICY.deadline;
    let mut unit = Unit::new(spec(2 * MIB, true));
    unit.start();
    assert_eq!(unit.step(Outcome::Refused(STUCK), late, &POLICY), Action::Replace(span(0, 2)));
    assert_eq!(unit.step(Outcome::Refused(STUCK), late, &POLICY), Action::Fail);
    assert_eq!(unit.culprits(), [span(0, 2)]);
    let mut unit = Unit::new(spec(2 * MIB, true));
    unit.start();
    assert_eq!(unit.step(Outcome::Refused(STUCK), late, &PATIENT), Action::Fail);
}

#[test]
fn a_stalled_call_is_narrowed_down_and_the_culprit_replaced() {
    let mut unit = Unit::new(spec(8 * MIB, true));
    let mut action = unit.start();
    let mut replaced = 0;
    while !matches!(action, Action::Map(_)) {
        let holds = |span: Span| span.start <= 5 * MIB && 5 * MIB < span.end();
        let outcome = match action {
            Action::Pin(span) if holds(span) && replaced == 0 => Outcome::Lost { stalled: true },
            Action::Pin(_) => Outcome::Pinned,
            Action::Locate(_) => Outcome::Located(vec![]),
            Action::Replace(at) => {
                assert_eq!(at, span(4, 2));
                replaced += 1;
                Outcome::Pinned
            }
            other => panic!("{other:?}"),
        };
        action = unit.step(outcome, Duration::ZERO, &POLICY);
    }
    assert_eq!((action, replaced), (Action::Map(span(0, 8)), 1));
}

#[test]
fn pins_that_are_lost_are_taken_again() {
    use Outcome::{Located, Lost, Pinned, Refused};
    let outcomes =
        [Refused(STUCK), Located(vec![span(14, 2)]), Pinned, Outcome::Waited, Lost { stalled: false }];
    let (actions, _) = play(true, &outcomes);
    assert_eq!(actions[5], Action::Pin(span(0, 14)));
    // While the map is made, too.
    let (actions, state) = play(true, &[Pinned, Lost { stalled: false }]);
    assert_eq!((actions[2], state), (Action::Pin(span(0, 16)), UnitState::Evicting));
}

#[test]
fn a_refused_map_under_trial_pins_is_made_again_whole() {
    use Outcome::{Pinned, Refused, Waited};
    let (actions, state) = play(true, &[Pinned, Refused(STUCK), Waited]);
    assert!(matches!(actions[2], Action::Wait(_)));
    assert_eq!((actions[3], state), (Action::Map(span(0, 16)), UnitState::Safe));
    let (actions, _) = play(true, &[Refused(Cause::Interrupted)]);
    assert_eq!(actions[1], Action::Wait(Duration::ZERO));
}

#[test]
fn what_does_not_pass_fails_at_once() {
    let memlock = Memlock { limit: Some(8 * MIB) };
    for cause in [Cause::NoMemory, Cause::Memlock(memlock), Cause::Unbacked, Cause::Other] {
        assert_eq!(play(true, &[Outcome::Refused(cause)]).1, UnitState::Failed);
    }
}

#[test]
fn a_limit_that_others_fill_passes_without_trial_pins() {
    use Outcome::{Mapped, NoTrial, Refused, Waited};
    let full = || Refused(Cause::Memlock(Memlock { limit: Some(8 * MIB) }));
    let play = |outcomes: &[Outcome]| {
        let mut unit = Unit::new(UnitSpec { crowded: true, ..spec(8 * MIB, true) });
        let mut actions = vec![unit.start()];
        actions.extend(outcomes.iter().map(|outcome| unit.step(outcome.clone(), Duration::ZERO, &POLICY)));
        actions
    };
    let actions = play(&[NoTrial, full(), Waited, full(), Waited, Mapped]);
    assert!(matches!(actions[2..5], [Action::Wait(_), Action::Map(_), Action::Wait(_)]), "{actions:?}");
    assert_eq!(actions[6], Action::Release);
    assert_eq!(play(&[full()]).last(), Some(&Action::Fail));
}

#[test]
fn waits_double_up_to_a_quarter_second() {
    for seed in 0..100 {
        for (rounds, full) in [(0, 1), (1, 2), (5, 32), (7, 128), (8, 250), (20, 250), (u32::MAX, 250)] {
            let wait = backoff(rounds, seed);
            let full = Duration::from_millis(full);
            assert!(wait <= full && wait >= full * 3 / 4, "{wait:?} for {rounds}");
        }
    }
    assert_ne!(backoff(8, 1), backoff(8, 2));
}

#[test]
fn of_many_parts_that_stall_one_is_waited_for_after_the_deadline() {
    let mut unit = Unit::new(UnitSpec { step: SUB_UNIT, ..spec(64 * MIB, true) });
    let mut stalls = [true; 32];
    let (mut lost, mut action) = (Duration::ZERO, unit.start());
    while !matches!(action, Action::Finish | Action::Fail) {
        let (Action::Pin(span) | Action::Replace(span)) = action else { panic!("{action:?}") };
        let subs = &mut stalls[(span.start / SUB_UNIT) as usize..(span.end() / SUB_UNIT) as usize];
        if matches!(action, Action::Replace(_)) {
            subs.fill(false);
        }
        let outcome = if subs.contains(&true) { Outcome::Lost { stalled: true } } else { Outcome::Pinned };
        lost += if unit.loses_by(&outcome) { STALL } else { Duration::ZERO };
        action = unit.step(outcome, lost, &POLICY);
    }
    assert_eq!(action, Action::Fail);
    assert!(lost <= POLICY.deadline + 2 * STALL, "{lost:?} are lost");
    assert!(
        stalls.iter().filter(|stalls| !**stalls).count() >= 20,
        "a part that is replaced costs one stall"
    );
}
