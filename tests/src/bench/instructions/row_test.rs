use super::*;

#[test]
fn a_command_that_succeeded_has_a_time() {
    assert_eq!(seconds("[1.0] reboot: Power down\n\nstopwatch 250000000 0\n"), Some(0.25));
    for none in ["", "stopwatch 250000000 1\n", "stopwatch 250000000 -1", "stopwatch x 0", "250000000 0"] {
        assert_eq!(seconds(none), None, "{none}");
    }
}
