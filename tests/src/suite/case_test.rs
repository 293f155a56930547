use super::*;

fn is_selected(name: &'static str, filter: Option<&str>) -> bool {
    case(name, HostSpec::default(), |_| Ok(())).is_selected(filter)
}

#[test]
fn cases_that_take_long_run_only_when_asked_for() {
    assert!(is_selected("soak/2 reboots", None));
    assert!(is_selected("soak/2 reboots", Some("reboots")));
    assert!(!is_selected("soak/2 reboots", Some("long/")));
    assert!(!is_selected("long/20 reboots", None));
    assert!(!is_selected("long/20 reboots", Some("reboots")));
    assert!(is_selected("long/20 reboots", Some("long/")));
    assert!(!is_selected("long/20 reboots", Some("long/50")));
}

#[test]
fn a_cpu_that_spins_with_interrupts_off_is_seen() {
    let registers = |at: &str, flags: &str| {
        format!(
            "\nCPU#0\nRAX=1 RBX=2\nRIP={at} RFL={flags} [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\nES =0000\n"
        )
    };
    let places = [0xffff_ffff_818e_47b0];
    assert!(is_spinning(&registers("ffffffff818e47d5", "00000002"), &places));
    assert!(!is_spinning(&registers("ffffffff818e47d5", "00000202"), &places));
    assert!(!is_spinning(&registers("ffffffff810d09e0", "00000086"), &places));
    assert!(!is_spinning(&registers("ffffffff818e47d5", "00000002"), &[]));
    assert!(!is_spinning("(qemu) unknown command", &places));
}

#[test]
fn places_are_found_in_tables_of_symbols() {
    let symbols = "ffffffff8113a400 t irq_wait_on_inprogress\nffffffff818e47b0 T queued_spin_lock_slowpath\n\
                   ffffffff818e5000 T queued_spin_lock_slowpath_other\nffffffffc0000000 t x\t[kvm]\n";
    assert_eq!(addresses(symbols, &SPINS), [0xffff_ffff_8113_a400, 0xffff_ffff_818e_47b0]);
    assert_eq!(addresses("", &SPINS), [0; 0]);
}
