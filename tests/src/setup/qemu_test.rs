use super::*;

#[test]
fn a_qemu_says_whether_it_will_do() {
    for new in
        ["QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)\nCopyright", "QEMU emulator version 10.2.0"]
    {
        assert!(will_do(new), "{new}");
    }
    for old in
        ["QEMU emulator version 10.1.9", "QEMU emulator version 7.2.22 (Debian)", "QEMU version 11", "qemu?"]
    {
        assert!(!will_do(old), "{old}");
    }
}
