use std::fs::File;
use std::io::ErrorKind;

use rustix::thread::capabilities;

use super::*;

/// Only the thread that gives its rights up loses them, so a test needs no process of its own.
#[test]
fn nothing_can_be_opened_and_what_is_open_serves() {
    let open = File::open("/proc/self/status").unwrap();
    let confined = std::thread::spawn(move || {
        give_up().unwrap();
        assert_eq!(capabilities(None).unwrap().permitted, CapabilitySet::empty());
        let refused = ["/proc/self/status", "/"].map(|path| File::open(path).map_err(|error| error.kind()));
        assert!(std::io::read_to_string(open).unwrap().contains("Pid:"));
        refused
    });
    let refused = confined.join().unwrap();
    if has_landlock() {
        assert!(refused.iter().all(|it| matches!(it, Err(ErrorKind::PermissionDenied))), "{refused:?}");
    }
    assert!(File::open("/proc/self/status").is_ok());
}

/// Whether this kernel has it, as a thread finds out that confines itself a little.
fn has_landlock() -> bool {
    let little = || Ruleset::default().handle_access(AccessFs::Execute)?.create()?.restrict_self();
    std::thread::spawn(little).join().unwrap().unwrap().ruleset != RulesetStatus::NotEnforced
}
