use super::*;

#[test]
fn every_end_without_a_failure_has_a_line() {
    assert_eq!(closing_line(Outcome::PoweredOff), "the guest powered off");
    assert_eq!(closing_line(Outcome::DebugExit(0x21)), "the guest wrote 0x21 to the debug-exit port");
    assert_eq!(closing_line(Outcome::Stopped("stopped from the console")), "stopped from the console");
}

#[test]
fn a_machine_that_nobody_can_ask_for_is_not_kept() {
    let mut config = Config { on_exit: OnExit::Keep, ..Config::default() };
    let said = |config: &Config| {
        let outcome = start(config, Some("/no/such/kernel".into()), None, None, Problems::default());
        let problems = outcome.unwrap_err();
        problems.0.iter().any(|problem| problem.what.to_string().starts_with("--on-exit keep: "))
    };
    assert!(said(&config));
    config.on_exit = OnExit::Reset;
    assert!(!said(&config));
}
