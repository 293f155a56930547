use proptest::prelude::*;

use super::super::privilege::Memlock;
use super::*;
use crate::bytes::{GIB, MIB};

const POLICY: RetryPolicy = RetryPolicy { deadline: Duration::from_secs(10) };
const STUCK: Cause = Cause::Migration { pages: 1 };

fn region(start: u64, size: u64, offset: u64) -> RamRegion {
    RamRegion { guest: GuestRange::new(start, size), hva: (1 << 40) + offset, offset }
}

fn play(devices: bool, outcomes: &[Outcome]) -> (Vec<Action>, UnitState) {
    let mut unit = Unit::new(devices, 1);
    let mut actions = vec![unit.start()];
    actions.extend(outcomes.iter().map(|&outcome| unit.step(outcome, Duration::ZERO, &POLICY)));
    (actions, unit.state())
}

#[test]
fn regions_are_cut_at_unit_boundaries() {
    let regions = [region(0, 3 * GIB, 0), region(4 * GIB, GIB + 5 * MIB, 3 * GIB)];
    let chunks = plan(&regions, GIB);
    let sizes: Vec<u64> = chunks.iter().map(|chunk| chunk.guest.size / MIB).collect();
    assert_eq!(sizes, [1024, 1024, 1024, 1024, 5]);
    assert_eq!(chunks[4].guest.start, 5 * GIB);
    assert_eq!((chunks[4].offset, chunks[4].hva), (4 * GIB, (1 << 40) + 4 * GIB));
}

#[test]
fn the_usual_course() {
    use Action::{Finish, Map, Release, TrialPin};
    use Outcome::{Mapped, Pinned, Released};
    let (actions, state) = play(true, &[Pinned, Mapped, Released]);
    assert_eq!((actions.as_slice(), state), (&[TrialPin, Map, Release, Finish][..], UnitState::Released));
    let (actions, state) = play(false, &[Pinned, Released]);
    assert_eq!((actions.as_slice(), state), (&[TrialPin, Release, Finish][..], UnitState::Released));
}

#[test]
fn without_a_trial_pin_the_map_is_the_pin() {
    use Action::{Fail, Finish, Map, Release, TrialPin};
    use Outcome::{Mapped, NoTrial, Released};
    let (actions, _) = play(true, &[NoTrial, Mapped, Released]);
    assert_eq!(actions, [TrialPin, Map, Release, Finish]);
    assert_eq!(play(false, &[NoTrial]), (vec![TrialPin, Fail], UnitState::Failed));
}

#[test]
fn what_passes_is_tried_again_where_it_was_refused() {
    let (actions, state) = play(true, &[Outcome::Refused(STUCK), Outcome::Waited]);
    assert!(matches!(actions[..], [Action::TrialPin, Action::Wait(_), Action::TrialPin]), "{actions:?}");
    assert_eq!(state, UnitState::Pinning);
    let (actions, state) = play(true, &[Outcome::Pinned, Outcome::Refused(STUCK), Outcome::Waited]);
    assert_eq!((actions.last(), state), (Some(&Action::Map), UnitState::Safe));
    let (actions, _) = play(true, &[Outcome::Refused(Cause::Interrupted)]);
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
fn waits_double_up_to_a_quarter_second() {
    for seed in 0..100 {
        for (retries, full) in [(0, 1), (1, 2), (5, 32), (7, 128), (8, 250), (20, 250), (u32::MAX, 250)] {
            let wait = backoff(retries, seed);
            let full = Duration::from_millis(full);
            assert!(wait <= full && wait >= full * 3 / 4, "{wait:?} for {retries}");
        }
    }
    assert_ne!(backoff(8, 1), backoff(8, 2));
}

#[test]
fn the_deadline_ends_it() {
    let mut unit = Unit::new(true, 1);
    unit.start();
    let mut refused_for = Duration::ZERO;
    while let Action::Wait(wait) = unit.step(Outcome::Refused(STUCK), refused_for, &POLICY) {
        assert!(refused_for + wait <= POLICY.deadline);
        refused_for += wait;
        unit.step(Outcome::Waited, refused_for, &POLICY);
    }
    assert_eq!((unit.state(), refused_for), (UnitState::Failed, POLICY.deadline));
    assert!(unit.retries() > 40 && unit.retries() < 80);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Pinned),
        Just(Outcome::NoTrial),
        Just(Outcome::Mapped),
        Just(Outcome::Released),
        Just(Outcome::Waited),
        Just(Outcome::Refused(STUCK)),
        Just(Outcome::Refused(Cause::NoMemory)),
    ]
}

proptest! {
    /// Whatever is reported, sensible or not, nothing is mapped that is not pinned, and nothing finishes unmapped.
    #[test]
    fn no_course_of_events_maps_what_is_not_pinned(
        devices: bool,
        outcomes in proptest::collection::vec(outcome(), 1..40),
    ) {
        let mut unit = Unit::new(devices, 1);
        let (mut safe, mut mapped) = (false, false);
        let mut last = unit.start();
        for outcome in outcomes {
            safe |= last == Action::TrialPin && matches!(outcome, Outcome::Pinned | Outcome::NoTrial);
            mapped |= last == Action::Map && outcome == Outcome::Mapped;
            last = unit.step(outcome, Duration::ZERO, &POLICY);
            match last {
                Action::Map => prop_assert!(devices && safe),
                Action::Finish => prop_assert!(mapped || !devices),
                Action::Fail => prop_assert_eq!(unit.state(), UnitState::Failed),
                _ => (),
            }
            if matches!(last, Action::Finish | Action::Fail) {
                break;
            }
        }
    }

    #[test]
    fn a_plan_covers_every_byte_once(
        sizes in proptest::collection::vec(1..4096u64, 1..4),
        unit in 1..2048u64,
    ) {
        let mut regions = Vec::new();
        let mut next = 0u64;
        for pages in sizes {
            let offset = next.next_multiple_of(GIB);
            regions.push(region(offset, pages * 4096, offset));
            next = offset + pages * 4096;
        }
        let chunks = plan(&regions, unit * 4096);
        let mut covered = Vec::new();
        for chunk in &chunks {
            prop_assert!(chunk.guest.size > 0 && chunk.guest.size <= unit * 4096);
            prop_assert_eq!(chunk.hva, (1 << 40) + chunk.offset);
            prop_assert_eq!(chunk.offset / (unit * 4096), (chunk.offset + chunk.guest.size - 1) / (unit * 4096));
            match covered.last_mut() {
                Some((_, end)) if *end == chunk.guest.start => *end = chunk.guest.end(),
                _ => covered.push((chunk.guest.start, chunk.guest.end())),
            }
        }
        let mut expected: Vec<(u64, u64)> = Vec::new();
        for region in &regions {
            match expected.last_mut() {
                Some((_, end)) if *end == region.guest.start => *end = region.guest.end(),
                _ => expected.push((region.guest.start, region.guest.end())),
            }
        }
        prop_assert_eq!(covered, expected);
    }
}
