use super::*;

fn is_selected(name: &'static str, filter: Option<&str>) -> bool {
    case(name, HostSpec::default(), |_| Ok(())).is_selected(filter)
}

#[test]
fn cases_that_take_long_run_only_when_asked_for() {
    assert!(is_selected("soak/a reboot", None));
    assert!(is_selected("soak/a reboot", Some("reboot")));
    assert!(!is_selected("soak/a reboot", Some("long/")));
    assert!(!is_selected("long/20 reboots", None));
    assert!(!is_selected("long/20 reboots", Some("reboot")));
    assert!(is_selected("long/20 reboots", Some("long/")));
    assert!(!is_selected("long/20 reboots", Some("long/50")));
}
