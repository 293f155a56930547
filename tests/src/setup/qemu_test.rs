use super::*;

#[test]
fn the_major_version_is_read() {
    assert_eq!(major("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), Some(10));
    assert_eq!(major("QEMU emulator version 7.2.22"), Some(7));
    assert_eq!(major("qemu?"), None);
}
