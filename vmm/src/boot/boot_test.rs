use super::fixture::{INIT_SIZE, LOAD};
use super::*;
use crate::acpi::{AcpiSpec, AcpiTables};

const MIB: u64 = 1 << 20;
const RAM: [GuestRange; 1] = [GuestRange::new(0, 16 * MIB)];

fn payload(kernel: &[u8], initrd: Option<Vec<u8>>) -> Payload {
    Payload {
        kernel: fixture::kernel(kernel),
        initrd: initrd.map(|bytes| Initrd::made(&[InitrdPart::Bytes(bytes.into())], "test").unwrap()),
        cmdline: "console=ttyS0".to_owned(),
    }
}

fn tables() -> AcpiTables {
    AcpiTables::build(&AcpiSpec::example()).unwrap()
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM[0].size as usize)]).unwrap()
}

fn bytes(memory: &GuestMemoryMmap, at: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    bytes
}

#[test]
fn a_bzimage_is_entered_in_64_bit_mode() {
    let memory = memory();
    let payload = payload(&fixture::bzimage(), Some(vec![7; 5000]));
    let entry = load(&memory, &RAM, &[], &payload, &tables()).unwrap();
    assert_eq!(entry, Entry::Linux64 { rip: LOAD + 0x200, zero_page: map::ZERO_PAGE });
    let initrd = u32::from_le_bytes(bytes(&memory, map::ZERO_PAGE + 0x218, 4).try_into().unwrap());
    assert_eq!(u64::from(initrd), 16 * MIB - 8192);
    assert_eq!(bytes(&memory, u64::from(initrd), 5000), [7; 5000]);
    assert_eq!(bytes(&memory, map::CMDLINE.start, 14), b"console=ttyS0\0");
    assert_eq!(bytes(&memory, map::ACPI.start, 8), b"RSD PTR ");
}

#[test]
fn an_elf_kernel_with_the_note_is_entered_by_pvh() {
    let memory = memory();
    let entry = load(&memory, &RAM, &[], &payload(&fixture::elf(true), None), &tables()).unwrap();
    assert_eq!(entry, Entry::Pvh { eip: LOAD as u32 + 0x20, start_info: map::START_INFO });
    assert_eq!(bytes(&memory, map::START_INFO, 4), 0x336e_c578_u32.to_le_bytes());
    let entry = load(&memory, &RAM, &[], &payload(&fixture::elf(false), None), &tables()).unwrap();
    assert_eq!(entry, Entry::Linux64 { rip: LOAD + 0x10, zero_page: map::ZERO_PAGE });
}

#[test]
fn a_reboot_finds_what_the_first_boot_found() {
    for kernel in [fixture::bzimage(), fixture::elf(true), fixture::elf(false)] {
        let payload = payload(&kernel, Some(vec![7; 5000]));
        let (first, second) = (memory(), memory());
        second.write_slice(&vec![0x5a; RAM[0].size as usize], GuestAddress(0)).unwrap();
        clear_for(&second, &payload).unwrap();
        let entry = load(&first, &RAM, &[], &payload, &tables()).unwrap();
        assert_eq!(load(&second, &RAM, &[], &payload, &tables()).unwrap(), entry);
        let initrd = GuestRange::new(16 * MIB - 8192, 5000);
        let kernel = GuestRange::new(LOAD, 0x1000);
        for range in [map::LOW, map::ISA, kernel, initrd] {
            let size = range.size as usize;
            assert!(bytes(&first, range.start, size) == bytes(&second, range.start, size), "{range}");
        }
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let mut payload = payload(&fixture::bzimage(), Some(vec![7; 3 * MIB as usize]));
    payload.cmdline = "x".repeat(3000);
    let errors: Vec<String> =
        check(&[GuestRange::new(0, 2 * MIB)], &[], &payload).iter().map(|e| e.to_string()).collect();
    assert_eq!(
        errors,
        [
            "the kernel needs guest memory at 0x200000..0x300000, the guest has it at 0x0..0x200000",
            "the initrd of 3 MiB does not fit: 1 MiB are free below 0x80000000",
            "the kernel command line is 3000 bytes long, this kernel takes 2047",
        ]
    );
    payload.cmdline.clear();
    assert!(check(&RAM, &[], &payload).is_empty());
    assert!(matches!(check(&[], &[], &payload)[..], [BootError::NoLowRam]));
}

#[test]
fn the_initrd_stays_clear_of_the_kernel_and_of_reserved_ranges() {
    let footprint = GuestRange::new(LOAD, u64::from(INIT_SIZE));
    let reserved = [GuestRange::new(14 * MIB, 2 * MIB)];
    for size in (1..16 * MIB).step_by(MIB as usize / 3) {
        let payload = payload(&fixture::bzimage(), Some(vec![7; size as usize]));
        match place_initrd(RAM[0], &reserved, &payload) {
            Ok(Some(range)) => {
                assert_eq!((range.size, range.start % 4096), (size, 0));
                assert!(range.start >= map::KERNEL_MIN && range.end() <= 14 * MIB);
                assert!(!range.overlaps(&footprint));
            }
            Ok(None) => unreachable!(),
            Err(BootError::InitrdDoesNotFit { room, .. }) => assert!(room == 11 * MIB && size > room),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    let small = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 * MIB as usize)]).unwrap();
    load(&small, &RAM, &[], &payload(&fixture::bzimage(), None), &tables()).unwrap_err();
}

#[test]
fn a_map_too_long_for_the_zero_page_is_an_error() {
    let reserved: Vec<_> = (0..200).map(|i| GuestRange::new(5 * MIB + i * 8192, 4096)).collect();
    let errors = check(&RAM, &reserved, &payload(&fixture::bzimage(), None));
    assert!(matches!(errors[..], [BootError::MemoryMapTooLong(_)]));
}
