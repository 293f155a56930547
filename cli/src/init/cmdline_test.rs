use super::*;

#[test]
fn the_last_known_value_counts() {
    for (cmdline, expected) in [
        ("", Then::Shell),
        ("console=ttyS0 vmm.then=poweroff quiet", Then::PowerOff),
        ("vmm.then=poweroff vmm.then=reboot", Then::Reboot),
        ("vmm.then=reboot vmm.then=shell", Then::Shell),
        ("xvmm.then=reboot vmm.then", Then::Shell),
    ] {
        assert_eq!(parse(cmdline), (expected, vec![]), "{cmdline}");
    }
}

#[test]
fn an_unknown_value_is_told_and_ignored() {
    assert_eq!(parse("vmm.then=reboot vmm.then=dance"), (Then::Reboot, vec!["dance".to_owned()]));
}
