use super::*;
use crate::suite::case;

#[test]
fn a_host_is_kept_while_there_are_cases_for_it() {
    let plain = HostSpec::default();
    let narrow = HostSpec::default().aw_bits(39);
    let queue = Queue::new(vec![
        case("a", narrow.clone(), |_| Ok(())),
        case("b", plain.clone(), |_| Ok(())),
        case("c", plain.clone(), |_| Ok(())),
        case("d", narrow.clone(), |_| Ok(())),
        case("e", plain.clone(), |_| Ok(())),
    ]);
    let name = |host| queue.next(host).map(|case| case.name);
    assert_eq!(name(None), Some("b"), "most cases want the plain host");
    assert_eq!(name(Some(&narrow)), Some("a"));
    assert_eq!(name(Some(&narrow)), Some("d"));
    assert_eq!(name(Some(&narrow)), Some("c"), "none is left for this host");
    assert_eq!(name(Some(&plain)), Some("e"));
    assert_eq!(name(Some(&plain)), None);
}

#[test]
fn a_second_host_of_a_kind_is_booted_only_when_there_is_one_of_each() {
    let plain = HostSpec::default();
    let narrow = HostSpec::default().aw_bits(39);
    let queue = Queue::new(vec![
        case("a", plain.clone(), |_| Ok(())),
        case("b", plain.clone(), |_| Ok(())),
        case("c", plain.clone(), |_| Ok(())),
        case("d", narrow.clone(), |_| Ok(())),
    ]);
    let name = |last| queue.next(last).map(|case| case.name);
    assert_eq!(name(None), Some("a"));
    assert_eq!(name(None), Some("d"), "the plain host is there");
    assert_eq!(name(None), Some("b"), "both are there");
    assert_eq!(name(Some(&narrow)), Some("c"), "none is left for this host");
    assert_eq!(name(Some(&plain)), None);
}

#[test]
fn only_what_the_emulator_did_is_run_again_and_once() {
    let report_of = |what: &str, console: &str| {
        let mut text = String::new();
        section(&mut text, "what went wrong", what);
        section(&mut text, "the host's console", console);
        text
    };
    let report = |console: &str| report_of("the lab host is gone", console);
    let panic =
        "? irqentry_enter+0xf/0x30\n? __svm_vcpu_run+0x9c/0x210\nKernel panic - not syncing: Fatal exception";
    assert!(was_lost_by_emulator(&report(panic)));
    assert!(!was_lost_by_emulator(&report("Kernel panic - not syncing: Attempted to kill init!")));
    assert!(!was_lost_by_emulator(panic), "a guest's console can say anything");
    assert!(was_lost_by_emulator(&report_of("the lab host did not come up (QEMU: killed after 180 s)", "")));
    assert!(!was_lost_by_emulator(&report_of("the lab host did not come up (QEMU: exit status: 1)", "")));
    let fault = "  | stderr: error: the guest failed\n  | stderr:   cause: triple fault on vCPU 1 at rip 0xfff0 (cr2 0x0, cr3 0x0)\n";
    assert!(was_lost_by_emulator(fault));
    assert!(!was_lost_by_emulator("  | stderr:   cause: KVM_RUN failed on vCPU 1\n"));
    assert!(was_lost_by_emulator("  | RIP: 0010:irq_wait_on_inprogress+0x23/0x60\n"));
    assert!(was_lost_by_emulator("  | RIP: 0010:entry_SYSCALL_64+0x0/0x17\n"));
    assert!(!was_lost_by_emulator("  | RIP: 0010:pciehp_power_off_slot+0x23/0x60\n"));

    let queue = Queue::new(Vec::new());
    let again = || queue.put_back(case("a", HostSpec::default(), |_| Ok(())));
    assert_eq!([again(), again(), again()], [true, true, false]);
    assert_eq!(queue.next(None).map(|case| case.name), Some("a"));
    assert_eq!(queue.next(None).map(|case| case.name), Some("a"));
    assert!(queue.next(None).is_none());
}
