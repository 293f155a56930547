use std::collections::BTreeMap;

use super::super::standing::Standing;
use super::*;

fn row(name: &str, binary: u64, ratio: f64, resident_kib: u64, wakeups: u64) -> Row {
    let standing =
        Standing { resident_kib, mappings_kib: BTreeMap::new(), threads: 2, wakeups: Some(wakeups) };
    let row = Row::new(name, Some(binary), Ok(Vec::new()), Ok(standing), None);
    Row { first_instruction_of_bare: Some(ratio), exit_of_bare: Some(ratio), ..row }
}

#[test]
fn only_what_vmm_does_not_keep_is_complained_of() {
    let qemu = row("QEMU microvm", 9 << 20, 90.0, 90_000, 90);
    assert_eq!(complaints(&[qemu, row(VMM, 6 << 20, 1.9, 3072, 0)]), [""; 0]);
    let all = complaints(&[row(VMM, (6 << 20) + 1, 2.5, 3073, 2)]);
    assert_eq!(
        all,
        [
            "vmm: exec to first instruction takes 2.50 times what the bare calls take, not 2",
            "vmm: the binary has 6291457 bytes, not 6291456",
            "vmm: 3073 KiB are resident besides guest memory, not 3072",
            "vmm: 2 wake-ups with an idle guest, not 0",
        ]
    );
}

#[test]
fn what_could_not_be_measured_is_not_as_promised() {
    let row = Row::new(VMM, None, Err("no KVM".to_owned()), Err("no KVM".to_owned()), None);
    assert_eq!(complaints(&[row]).len(), 3);
}

#[test]
fn a_sandbox_is_compared_with_the_same_without() {
    let timed = |name: &str, ms: f64| {
        let of = Summary::of([ms]);
        Row { first_instruction: of, exit: of, ..row(name, 1, 1.9, 1, 0) }
    };
    let without = timed(VMM, 3.0);
    // However many times the bare calls it takes.
    let cheap = Row { exit_of_bare: Some(9.0), ..timed("vmm --sandbox on", 4.9) };
    assert_eq!(complaints(&[without.clone(), cheap]), [""; 0]);
    assert_eq!(
        complaints(&[without, timed("vmm --sandbox on", 5.5)]),
        [
            "vmm --sandbox on: the sandbox adds 2.50 ms to the first instruction and 2.50 ms to the exit, not 2"
        ]
    );
}
