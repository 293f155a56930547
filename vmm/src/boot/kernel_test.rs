use std::os::unix::fs::PermissionsExt;

use super::super::fixture::{self, CODE, INIT_SIZE, LOAD};
use super::*;
use vm_memory::{Bytes, GuestAddress};

fn fault(contents: &[u8]) -> KernelFault {
    Kernel::open(fixture::file(contents).path()).unwrap_err().fault
}

fn patched(mut image: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}

#[test]
fn a_bzimage() {
    let kernel = fixture::kernel(&fixture::bzimage());
    assert_eq!(kernel.kind(), KernelKind::BzImage);
    assert_eq!(kernel.footprint(), GuestRange::new(LOAD, u64::from(INIT_SIZE)));
    assert_eq!(kernel.entry(), LOAD + 0x200);
    assert_eq!(kernel.cmdline_max(), 2047);
    assert_eq!(kernel.pvh_entry(), None);
}

#[test]
fn an_elf_with_and_without_pvh() {
    let kernel = fixture::kernel(&fixture::elf(true));
    assert_eq!(kernel.kind(), KernelKind::Elf { pvh: true });
    assert_eq!(kernel.pvh_entry(), Some(LOAD as u32 + 0x20));
    assert_eq!(kernel.footprint(), GuestRange::new(LOAD, 0x1000));
    let kernel = fixture::kernel(&fixture::elf(false));
    assert_eq!(kernel.kind(), KernelKind::Elf { pvh: false });
    assert_eq!(kernel.entry(), LOAD + 0x10);
}

#[test]
fn bad_files() {
    let open = |path: &Path| match Kernel::open(path).unwrap_err().fault {
        KernelFault::File(fault) => fault,
        other => panic!("{other}"),
    };
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(open(&dir.path().join("none")), FileFault::Missing));
    assert!(matches!(open(dir.path()), FileFault::Directory));
    assert!(matches!(open(fixture::file(b"").path()), FileFault::Empty));
    assert!(matches!(open(Path::new("/dev/null")), FileFault::Special));
    let secret = fixture::file(b"x");
    secret.as_file().set_permissions(std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads it all the same; then it is merely no kernel.
    match Kernel::open(secret.path()).unwrap_err().fault {
        KernelFault::File(FileFault::Unreadable(_)) | KernelFault::NotAKernel(_) => {}
        other => panic!("{other}"),
    }
}

#[test]
fn says_what_it_is_instead() {
    for (contents, name) in [
        (&b"\x1f\x8b\x08rest"[..], "a gzip file"),
        (b"#!/bin/sh\nexec true\n", "a script"),
        (b"070701000000", "an initramfs (cpio archive)"),
        (b"hello, world\n", "a text file"),
        (&[0; 9000], "nothing but zeros"),
        (&[0xc3; 9000], "data of no known kind"),
    ] {
        match fault(contents) {
            KernelFault::NotAKernel(found) => assert_eq!(found, name),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn the_error_reads_well() {
    let file = fixture::file(b"#!/bin/sh\n");
    let error = Kernel::open(file.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot use kernel {}", file.path().display()));
    assert_eq!(error.fault.to_string(), "it is not a kernel but a script");
    assert!(error.help().unwrap().to_string().contains("bzImage"));
}

#[test]
fn bzimages_that_will_not_do() {
    let image = fixture::bzimage;
    let old = fault(&patched(image(), 0x206, &0x0209_u16.to_le_bytes()));
    assert_eq!(old.to_string(), "it is a bzImage of boot protocol 2.09, 2.12 or later is needed");
    assert!(matches!(fault(&patched(image(), 0x236, &[0])), KernelFault::No64BitEntry));
    assert!(matches!(fault(&patched(image(), 0x211, &[0])), KernelFault::No64BitEntry));
    assert!(matches!(fault(&patched(image(), 0x258, &[0; 8])), KernelFault::BadAddress { .. }));
    assert!(matches!(fault(&patched(image(), 0x258, &[0xff; 8])), KernelFault::BadAddress { .. }));
    let huge = patched(image(), 0x258, &0xffff_ffff_ffff_f000_u64.to_le_bytes());
    assert!(matches!(fault(&huge), KernelFault::BadAddress { .. }));
}

#[test]
fn elf_files_that_will_not_do() {
    let wrong = |at: usize, bytes: &[u8]| match fault(&patched(fixture::elf(true), at, bytes)) {
        KernelFault::WrongElf(what) => what,
        other => panic!("{other}"),
    };
    assert_eq!(wrong(4, &[1]), "not a 64-bit little-endian ELF file");
    assert_eq!(wrong(5, &[2]), "not a 64-bit little-endian ELF file");
    assert_eq!(wrong(18, &[183, 0]), "an ELF file for another architecture");
    assert_eq!(wrong(16, &[1]), "an ELF file, but not an executable");
    assert_eq!(wrong(54, &[32]), "an ELF file with malformed program headers");
    assert_eq!(wrong(56, &[0]), "an ELF file without program headers");
    assert_eq!(wrong(64, &[3]), "a program for Linux, not a kernel");
    assert_eq!(wrong(64, &[7]), "a program for Linux, not a kernel");
    assert_eq!(wrong(64, &[9]), "an ELF file with nothing to load");
    assert_eq!(wrong(64 + 40, &[1, 0]), "an ELF file with malformed program headers");
    let low = patched(fixture::elf(true), 64 + 24, &0x1000_u64.to_le_bytes());
    assert!(matches!(fault(&low), KernelFault::BadAddress { address: 0x1000 }));
    let outside = patched(fixture::elf(false), 24, &u64::MAX.to_le_bytes());
    assert!(matches!(fault(&outside), KernelFault::BadAddress { address: u64::MAX }));
    let beyond = patched(fixture::elf(false), 64 + 8, &u64::MAX.to_le_bytes());
    assert!(matches!(fault(&beyond), KernelFault::WrongElf(_)));
}

#[test]
fn cut_off_anywhere() {
    // What of each file is needed: all of the bzImage, the ELF file up to the end of its segment.
    for (image, needed) in [(fixture::bzimage(), 5 * 512 + 4096), (fixture::elf(true), 0x800)] {
        for len in (0..needed).step_by(512).chain(1..1024) {
            match fault(&image[..len]) {
                KernelFault::Truncated { have, need } if have == len as u64 => assert!(need > have),
                KernelFault::File(FileFault::Empty) if len == 0 => {}
                KernelFault::NotAKernel(_) if len < 4 => {}
                other => panic!("{len} bytes: {other}"),
            }
        }
    }
}

#[test]
fn random_headers_never_panic() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(64), |(at in 0_usize..0x400, bytes in proptest::collection::vec(any::<u8>(), 1..64))| {
        for image in [fixture::bzimage(), fixture::elf(true)] {
            let image = patched(image, at, &bytes);
            if let Ok(kernel) = Kernel::open(fixture::file(&image).path()) {
                let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap();
                let _ = kernel.load(&memory);
            }
        }
    });
}

#[test]
fn loads_into_used_memory() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap();
    let read = |at: u64, size: usize| {
        let mut bytes = vec![0; size];
        memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    };
    let (bzimage, elf) = (fixture::kernel(&fixture::bzimage()), fixture::kernel(&fixture::elf(true)));
    for _ in 0..2 {
        memory.write_slice(&[0x5a; 0x2000], GuestAddress(LOAD)).unwrap();
        bzimage.clear(&memory).unwrap();
        bzimage.load(&memory).unwrap();
        assert_eq!(read(LOAD, 0x1000), [CODE; 0x1000]);
        elf.clear(&memory).unwrap();
        elf.load(&memory).unwrap();
        assert_eq!(read(LOAD, 0x400), [CODE; 0x400]);
        assert_eq!(read(LOAD + 0x400, 0xc00), [0; 0xc00]);
        assert_eq!(read(LOAD + 0x1000, 1), [0x5a]);
    }
}
