//! What a file that is no kernel looks like, for the message that says so.

/// Names the kind of file that starts with `head`.
pub(super) fn looks_like(head: &[u8]) -> &'static str {
    const MAGIC: &[(usize, &[u8], &str)] = &[
        (0, b"\x1f\x8b", "a gzip file"),
        (0, b"\xfd7zXZ\0", "an xz file"),
        (0, b"\x28\xb5\x2f\xfd", "a zstd file"),
        (0, b"BZh", "a bzip2 file"),
        (0, b"\x5d\0\0", "an lzma file"),
        (0, b"\x04\x22\x4d\x18", "an lz4 file"),
        (0, b"\x02\x21\x4c\x18", "an lz4 file"),
        (0, b"PK\x03\x04", "a zip file"),
        (0, b"070701", "an initramfs (cpio archive)"),
        (0, b"070702", "an initramfs (cpio archive)"),
        (0, b"\xc7\x71", "an initramfs (cpio archive)"),
        (0, b"#!", "a script"),
        (0, b"!<arch>", "a static library or Debian package"),
        (0, b"QFI\xfb", "a qcow2 disk image"),
        (0, b"hsqs", "a squashfs image"),
        (0, b"\x27\x05\x19\x56", "a U-Boot image"),
        (0, b"\xd0\x0d\xfe\xed", "a device tree blob"),
        (0x38, b"ARM\x64", "a Linux kernel for arm64"),
        (0x38, b"RSC\x05", "a Linux kernel for RISC-V"),
        (257, b"ustar", "a tar archive"),
        (0x438, b"\x53\xef", "an ext2/3/4 file system"),
        (0x200, b"EFI PART", "a partitioned disk image"),
        (0, b"MZ", "an EFI application or a Windows program"),
        (0x1fe, b"\x55\xaa", "a boot sector or disk image"),
    ];
    let found =
        MAGIC.iter().find(|(at, magic, _)| head.get(*at..).is_some_and(|bytes| bytes.starts_with(magic)));
    match found {
        Some((_, _, name)) => name,
        None if head.iter().all(|byte| *byte == 0) => "nothing but zeros",
        None if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            "a text file"
        }
        None => "data of no known kind",
    }
}
