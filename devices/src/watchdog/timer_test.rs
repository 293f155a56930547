use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A timer whose stages take 1.017 s each.
fn timer() -> Timer {
    let mut timer = Timer::default();
    timer.preload(0, 1024);
    timer.preload(1, 1024);
    timer
}

#[test]
fn stages_are_as_long_as_the_pci_clock_makes_them() {
    assert_eq!(length(1024, Rate::Millisecond).as_micros(), 1_016_800);
    assert_eq!(length(PRELOAD, Rate::Microsecond).as_millis(), 1016);
    assert_eq!(length(PRELOAD, Rate::Millisecond).as_secs(), 1041);
    assert_eq!(length(0, Rate::Microsecond), SHORTEST);
}

#[test]
fn the_second_stage_follows_the_first_and_its_end_is_what_counts() {
    let (mut timer, now) = (timer(), Instant::now());
    assert_eq!((timer.left(now), timer.look(now)), (None, Passed::Nothing));
    timer.start(now);
    assert_eq!(timer.look(now + SECOND), Passed::Nothing);
    assert_eq!(timer.look(now + 2 * SECOND), Passed::Nothing);
    assert!(timer.left(now + 2 * SECOND).is_some_and(|left| left > SECOND));
    assert_eq!(timer.look(now + 4 * SECOND), Passed::Expired);
    assert!(!timer.is_on());
    assert_eq!(timer.look(now + 100 * SECOND), Passed::Nothing);
}

#[test]
fn a_start_in_time_begins_anew_and_a_stop_ends_it() {
    let (mut timer, now) = (timer(), Instant::now());
    timer.start(now);
    assert_eq!(timer.look(now + 2 * SECOND), Passed::Nothing);
    timer.start(now + 2 * SECOND);
    assert_eq!(timer.look(now + 4 * SECOND), Passed::Nothing, "the first stage again");
    timer.stop();
    assert_eq!(timer.look(now + 100 * SECOND), Passed::Nothing);
}

#[test]
fn no_time_passes_while_the_guest_is_paused() {
    let (mut timer, now) = (timer(), Instant::now());
    timer.start(now);
    timer.stand_still(now + SECOND);
    assert_eq!(timer.left(now + 50 * SECOND), None);
    assert_eq!(timer.look(now + 50 * SECOND), Passed::Nothing);
    timer.go_on(now + 100 * SECOND);
    assert!(timer.left(now + 100 * SECOND).is_some_and(|left| left < SECOND && !left.is_zero()));
    // One that is started by a vCPU on its way out waits as well.
    timer.stand_still(now + 100 * SECOND);
    timer.start(now + 100 * SECOND);
    assert_eq!(timer.left(now + 200 * SECOND), None);
    timer.go_on(now + 200 * SECOND);
    assert!(timer.left(now + 200 * SECOND).is_some_and(|left| left > SECOND));
}
