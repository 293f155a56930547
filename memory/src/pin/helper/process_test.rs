use super::*;

#[test]
fn how_helpers_end() {
    // As wait(2) has it: a signal in the low bits, 128 for a core dump, an exit code above.
    for (status, loss, how) in [
        (31, Loss::Forbidden, "pid 7 was killed by a seccomp filter"),
        (31 | 128, Loss::Forbidden, "pid 7 was killed by a seccomp filter"),
        (9, Loss::Died, "pid 7 was killed by signal 9"),
        (3 << 8, Loss::Died, "pid 7 ended with exit code 3"),
    ] {
        let PinFault::Lost { loss: told, how: words } = fault(7, Some(ExitStatus::from_raw(status))) else {
            panic!("no loss")
        };
        assert_eq!((told, words.as_str()), (loss, how));
    }
    assert!(matches!(fault(7, None), PinFault::Lost { loss: Loss::Died, .. }));
}

#[test]
fn what_a_process_has_used_of_cpus_grows() {
    let us = std::process::id();
    let before = cpu_time(us);
    if before == 0 {
        return eprintln!("this kernel does not tell");
    }
    while cpu_time(us) == before {}
    assert_eq!(cpu_time(u32::MAX), 0);
}
