use super::*;

#[test]
fn a_machine_is_kept_if_its_guest_powered_off_of_its_own_accord() {
    let powered_off = Outcome::PoweredOff;
    assert!(keeps(OnExit::Keep, powered_off, false));
    assert!(!keeps(OnExit::Keep, powered_off, true), "who sent a signal waits for the process");
    for (on_exit, outcome) in [
        (OnExit::Stop, powered_off),
        (OnExit::Reset, powered_off),
        (OnExit::Keep, Outcome::DebugExit(0)),
        (OnExit::Keep, Outcome::Stopped("stopped from the console")),
    ] {
        assert!(!keeps(on_exit, outcome, false), "{on_exit:?} {outcome:?}");
    }
}
