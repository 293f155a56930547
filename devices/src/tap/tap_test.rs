use super::*;

#[test]
fn names_that_the_kernel_does_not_take_are_refused() {
    for name in ["tap0", "vm-1.eth", "fifteen-bytes-x"] {
        assert!(check_name(name).is_ok(), "{name}");
    }
    for name in ["", ".", "..", "a/b", "a:b", "tap%d", "a b", "sixteen-bytes-xx", "a\0"] {
        assert!(matches!(check_name(name), Err(TapError::Name(_))), "{name}");
    }
}

#[test]
fn what_is_no_tap_is_told_apart() {
    let open = |name: &str| Tap::open(&TapOptions { name: name.to_owned(), ..TapOptions::default() });
    assert!(matches!(open("vmm-none"), Err(TapError::Missing(_))));
    assert!(matches!(open("lo"), Err(TapError::NotTap(_))));
    let said = |errno, exists| refusal("t", exists, io::Error::from_raw_os_error(errno)).to_string();
    assert_eq!(said(libc::EBUSY, true), "the tap t is in use by another process");
    assert_eq!(said(libc::EPERM, true), "the tap t is not ours to use");
    assert_eq!(said(libc::EPERM, false), "the tap t cannot be made: that takes CAP_NET_ADMIN");
    assert_eq!(said(libc::EINVAL, true), "the tap t cannot be set up: the kernel does not attach it");
}

#[test]
fn descriptors_that_are_no_taps_are_refused() {
    let said = |fds: &[u32]| HandedTap::take(fds).map(drop).unwrap_err().to_string();
    assert_eq!(said(&[1]), "file descriptor 1 is not a tap: it is a standard one");
    assert_eq!(said(&[987_654]), "file descriptor 987654 is not a tap: it is not open");
    let file = File::open("/dev/null").unwrap();
    let fd = file.as_raw_fd() as u32;
    assert!(said(&[fd]).starts_with(&format!("file descriptor {fd} is not a tap: ")));
    assert!(file.metadata().is_ok(), "it was closed");
}

#[test]
fn nothing_is_offloaded_without_checksums() {
    let all = Offloads { checksum: true, tso4: true, tso6: true, ecn: true, ufo: true, uso: true };
    assert_eq!(all.flags(), 0x7f);
    assert_eq!(Offloads { checksum: false, ..all }.flags(), 0);
    assert_eq!(Offloads { checksum: true, ecn: true, ..Offloads::default() }.flags(), 1);
}
