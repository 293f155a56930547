use std::io::Write;

use proptest::prelude::*;
use vm_memory::{Bytes, FileOffset, GuestAddress};

use super::*;

const MIB: u64 = 1 << 20;

#[test]
fn as_high_as_possible() {
    let free = [GuestRange::new(MIB, 15 * MIB), GuestRange::new(32 * MIB, 32 * MIB)];
    assert_eq!(place(5000, &free, u64::MAX), Ok(GuestRange::new(64 * MIB - 8192, 5000)));
    assert_eq!(place(32 * MIB, &free, u64::MAX), Ok(GuestRange::new(32 * MIB, 32 * MIB)));
    assert_eq!(place(32 * MIB + 1, &free, u64::MAX), Err(32 * MIB));
    // The limit leaves less above the kernel than below it.
    assert_eq!(place(14 * MIB, &free, 36 * MIB), Ok(GuestRange::new(2 * MIB, 14 * MIB)));
    assert_eq!(place(1, &[], u64::MAX), Err(0));
    assert_eq!(place(u64::MAX, &free, u64::MAX), Err(32 * MIB));
}

proptest! {
    #[test]
    fn always_aligned_and_inside(
        size in 1_u64..64 * MIB,
        start in 0_u64..64 * MIB,
        len in 1_u64..64 * MIB,
        limit in 0_u64..128 * MIB,
    ) {
        let gap = GuestRange::new(start, len);
        match place(size, &[gap], limit) {
            Ok(range) => {
                prop_assert_eq!(range.start % 4096, 0);
                prop_assert_eq!(range.size, size);
                prop_assert!(gap.contains(&range) && range.end() <= limit);
            }
            Err(room) => prop_assert!(room < size),
        }
    }
}

#[test]
fn bad_files() {
    let fault = |path: &Path| match Initrd::open(path).unwrap_err().fault {
        InitrdFault::File(fault) => fault,
        other => panic!("{other}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(fault(&dir.path().join("none")), FileFault::Missing));
    assert!(matches!(fault(dir.path()), FileFault::Directory));
    assert!(matches!(fault(empty.path()), FileFault::Empty));
    assert!(matches!(fault(Path::new("/dev/null")), FileFault::Special));
    assert!(Initrd::made(&[], "made").is_err());
    assert!(Initrd::made(&[InitrdPart::Bytes(Arc::default())], "made").is_err());
}

#[test]
fn loads_from_bytes_and_files_again_and_again() {
    // Two regions, of which the second has a file that begins elsewhere than the region.
    let backing = tempfile::tempfile().unwrap();
    backing.set_len(3 << 20).unwrap();
    let half = 2 << 20;
    let memory = GuestMemoryMmap::from_ranges_with_files([
        (GuestAddress(0), half, None),
        (GuestAddress(half as u64), half, Some(FileOffset::new(backing, 1 << 20))),
    ])
    .unwrap();
    let contents: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&contents).unwrap();
    // In one, in the other, and in both.
    let ranges = [1 << 20, 3 << 20, (2 << 20) - 4096].map(|at| GuestRange::new(at, contents.len() as u64));
    let whole = InitrdPart::File(Arc::new(file.try_clone().unwrap()));
    let bytes = |bytes: &[u8]| InitrdPart::Bytes(bytes.into());
    let mut half = tempfile::tempfile().unwrap();
    half.write_all(&contents[10..5000]).unwrap();
    let half = InitrdPart::File(Arc::new(half));
    for parts in [
        vec![bytes(&contents)],
        vec![whole.clone()],
        vec![bytes(&contents[..10]), half, bytes(&contents[5000..])],
    ] {
        let initrd = Initrd::made(&parts, "made").unwrap();
        assert_eq!(initrd.size(), contents.len() as u64);
        for range in ranges.into_iter().chain(ranges) {
            memory.write_slice(&[0; 10_000], GuestAddress(range.start)).unwrap();
            initrd.load(&memory, range).unwrap();
            let mut found = vec![0; contents.len()];
            memory.read_slice(&mut found, GuestAddress(range.start)).unwrap();
            assert!(found == contents);
        }
    }
    let initrd = Initrd::made(&[whole], "made").unwrap();
    file.write_all(b"more").unwrap();
    let error = initrd.load(&memory, ranges[0]).unwrap_err();
    assert!(matches!(error.fault, InitrdFault::File(FileFault::Changed { then: 10_000, now: 10_004 })));
}

#[test]
fn a_large_file_is_loaded_in_shares_without_a_gap() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap();
    let contents: Vec<u8> = (0..(9 << 18) + 5_u32).flat_map(|i| i.to_le_bytes()).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&contents).unwrap();
    let initrd = Initrd::made(&[InitrdPart::File(Arc::new(file))], "made").unwrap();
    initrd.load(&memory, GuestRange::new(1 << 20, contents.len() as u64)).unwrap();
    let mut found = vec![0; contents.len() + 1];
    memory.read_slice(&mut found, GuestAddress(1 << 20)).unwrap();
    assert!(found[..contents.len()] == contents);
    assert_eq!(found[contents.len()], 0);
}
