use super::*;

#[test]
fn how_helpers_end() {
    // As wait(2) has it: a signal in the low bits, 128 for a core dump, an exit code above.
    for (status, loss, how) in [
        (31, Loss::Forbidden, "was killed by a seccomp filter"),
        (31 | 128, Loss::Forbidden, "was killed by a seccomp filter"),
        (9, Loss::Died, "was killed by signal 9"),
        (3 << 8, Loss::Died, "ended with exit code 3"),
    ] {
        let PinFault::Lost { loss: told, how: words } = fault(Some(ExitStatus::from_raw(status))) else {
            panic!("no loss")
        };
        assert_eq!((told, words.as_str()), (loss, how));
    }
    assert!(matches!(fault(None), PinFault::Lost { loss: Loss::Died, .. }));
}
