//! Signals are the whole process's, so this test has a process of its own.

use signal_hook::consts::SIGHUP;
use vmm::machine::signals::Signals;

#[test]
fn each_arrival_is_told_once() {
    let mut signals = Signals::catch().unwrap();
    assert_eq!(signals.arrived(), None);
    for _ in 0..2 {
        signal_hook::low_level::raise(SIGHUP).unwrap();
    }
    let names: Vec<_> = std::iter::from_fn(|| signals.arrived()).map(|signal| signal.name).collect();
    assert_eq!(names, ["SIGHUP", "SIGHUP"]);
}
