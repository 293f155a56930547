use std::mem::offset_of;
use std::os::unix::fs::{MetadataExt, symlink};

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use libc::user_regs_struct;
use memory::{AddressLimits, GuestRange, Layout};
use vm_memory::{Bytes, GuestAddress};

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Where the second region begins.
const HIGH: u64 = 4 * GIB;

fn dump(path: &Path) -> Coredump {
    let mut layout = Layout::new(16 * MIB, &AddressLimits::cpu_only(46)).unwrap();
    layout.ram = vec![GuestRange::new(0, 16 * MIB), GuestRange::new(HIGH, 64 * MIB)];
    let ram = Arc::new(GuestRam::new(&layout).unwrap());
    let vcpu = |number: u64| {
        let fs = kvm_segment { base: 0x5000 + number, selector: 6, ..Default::default() };
        Registers {
            general: kvm_regs {
                rip: 0x1000 + number,
                rsp: 0x2000 + number,
                r15: 15,
                rflags: 2,
                ..Default::default()
            },
            system: kvm_sregs {
                fs,
                cs: kvm_segment { selector: 0x10, ..Default::default() },
                ..Default::default()
            },
        }
    };
    Coredump { ram, vcpus: vec![vcpu(0), vcpu(1)], path: path.to_owned() }
}

fn write(dump: &Coredump) -> Result<(), CoredumpError> {
    dump.write(&AtomicBool::new(false))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(number)
}

struct Segment {
    kind: u64,
    offset: usize,
    vaddr: u64,
    paddr: u64,
    size: u64,
    memory: u64,
}

fn segments(file: &[u8]) -> Vec<Segment> {
    let (table, size, count) = (number::<8>(file, 32), number::<2>(file, 54), number::<2>(file, 56));
    let segment = |index| {
        let at = (table + index * size) as usize;
        let field = |offset| number::<8>(file, at + offset);
        Segment {
            kind: number::<4>(file, at),
            offset: field(8) as usize,
            vaddr: field(16),
            paddr: field(24),
            size: field(32),
            memory: field(40),
        }
    };
    (0..count).map(segment).collect()
}

#[test]
fn ram_is_in_the_file_at_its_guest_physical_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let dump = dump(&directory.path().join("core"));
    let places = [(0, "first"), (MIB + 4090, "over a page's end"), (HIGH + 64 * MIB - 4, "last")];
    for (gpa, text) in places {
        dump.ram
            .guest_memory()
            .write_slice(&text.as_bytes()[..text.len().min(4)], GuestAddress(gpa))
            .unwrap();
    }
    // Longer than what is copied at once.
    let long: Vec<u8> = (0..5 * MIB / 2).map(|index| (index % 251) as u8).collect();
    dump.ram.guest_memory().write_slice(&long, GuestAddress(HIGH + 8 * MIB)).unwrap();
    write(&dump).unwrap();

    let file = fs::read(&dump.path).unwrap();
    assert_eq!(&file[..7], b"\x7fELF\x02\x01\x01");
    let (kind, machine) = (number::<2>(&file, 16), number::<2>(&file, 18));
    assert_eq!((kind, machine, number::<2>(&file, 52), number::<2>(&file, 54)), (4, 62, 64, 56));
    let segments = segments(&file);
    let loads: Vec<_> = segments.iter().filter(|it| it.kind == 1).collect();
    assert_eq!((segments.len(), loads.len(), segments[0].kind), (3, 2, 4));
    for (load, (start, size)) in loads.iter().zip([(0, 16 * MIB), (HIGH, 64 * MIB)]) {
        assert_eq!((load.vaddr, load.paddr, load.size, load.memory), (0, start, size, size));
        assert_eq!(load.offset % 4096, 0);
    }
    let at = |gpa: u64| {
        let load = loads.iter().find(|it| (it.paddr..it.paddr + it.size).contains(&gpa)).unwrap();
        load.offset + (gpa - load.paddr) as usize
    };
    for (gpa, text) in places {
        assert_eq!(&file[at(gpa)..at(gpa) + 4], &text.as_bytes()[..4], "{gpa:#x}");
    }
    assert!(file[at(HIGH + 8 * MIB)..].starts_with(&long));
    assert!(file[at(4096)..at(MIB)].iter().all(|byte| *byte == 0));

    let metadata = fs::metadata(&dump.path).unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (file.len() as u64, 0o600));
    assert!(metadata.len() > 80 * MIB);
    assert!(metadata.blocks() * 512 < 20 * MIB, "{} blocks: holes were filled", metadata.blocks());
    assert!(dump.ram.allocated() < 20 * MIB, "memory was touched");
}

#[test]
fn each_vcpu_is_a_thread_with_its_registers() {
    let directory = tempfile::tempdir().unwrap();
    let dump = dump(&directory.path().join("core"));
    write(&dump).unwrap();
    let file = fs::read(&dump.path).unwrap();
    let notes = &segments(&file)[0];
    assert_eq!(notes.size, 2 * (12 + 8 + 336) + 2 * (12 + 8 + 432));
    for vcpu in 0..2 {
        let at = notes.offset + vcpu as usize * (12 + 8 + 336);
        assert_eq!(
            (number::<4>(&file, at), number::<4>(&file, at + 4), number::<4>(&file, at + 8)),
            (5, 336, 1)
        );
        assert_eq!(&file[at + 12..at + 20], b"CORE\0\0\0\0");
        let status = &file[at + 20..at + 20 + 336];
        assert_eq!(number::<4>(status, 32), vcpu + 1);
        let register = |offset| number::<8>(status, 112 + offset);
        assert_eq!(register(offset_of!(user_regs_struct, rip)), 0x1000 + vcpu);
        assert_eq!(register(offset_of!(user_regs_struct, rsp)), 0x2000 + vcpu);
        assert_eq!(register(offset_of!(user_regs_struct, r15)), 15);
        assert_eq!(register(offset_of!(user_regs_struct, eflags)), 2);
        assert_eq!(register(offset_of!(user_regs_struct, cs)), 0x10);
        assert_eq!(register(offset_of!(user_regs_struct, fs_base)), 0x5000 + vcpu);
        assert_eq!(register(offset_of!(user_regs_struct, fs)), 6);
    }
}

#[test]
fn control_registers_are_where_qemu_has_them() {
    let vcpu = Registers {
        general: kvm_regs { rax: 1, rsi: 5, r15: 15, rip: 0x1000, rflags: 2, ..Default::default() },
        system: kvm_sregs {
            // Of 64-bit code: present, accessed, readable, 4 KiB granularity.
            cs: kvm_segment {
                selector: 0x10,
                limit: 0xffff_ffff,
                type_: 11,
                s: 1,
                present: 1,
                l: 1,
                g: 1,
                ..Default::default()
            },
            idt: kvm_dtable { base: 0xfffe_0000, limit: 0xfff, ..Default::default() },
            cr0: 0x8005_0033,
            cr3: 0x7000,
            cr4: 0x20,
            ..Default::default()
        },
    };
    let notes = notes::of(&[vcpu]);
    let note = &notes[12 + 8 + 336..];
    assert_eq!((number::<4>(note, 0), number::<4>(note, 4), number::<4>(note, 8)), (5, 432, 0));
    assert_eq!(&note[12..20], b"QEMU\0\0\0\0");
    let state = &note[20..];
    assert_eq!((state.len(), number::<4>(state, 0), number::<4>(state, 4)), (432, 1, 432));
    let general = |index: usize| number::<8>(state, 8 + 8 * index);
    assert_eq!([general(0), general(4), general(15), general(16), general(17)], [1, 5, 15, 0x1000, 2]);
    let cs = [number::<4>(state, 152), number::<4>(state, 156), number::<4>(state, 160)];
    assert_eq!(cs, [0x10, 0xffff_ffff, 0x00a0_9b00]);
    let idt = 152 + 9 * 24;
    assert_eq!((number::<4>(state, idt + 4), number::<8>(state, idt + 16)), (0xfff, 0xfffe_0000));
    let control = |index: usize| number::<8>(state, 392 + 8 * index);
    assert_eq!([control(0), control(2), control(3), control(4)], [0x8005_0033, 0, 0x7000, 0x20]);
}

#[test]
fn nothing_is_overwritten_or_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (there, link) = (directory.path().join("there"), directory.path().join("link"));
    fs::write(&there, "mine").unwrap();
    symlink(directory.path().join("elsewhere"), &link).unwrap();
    for path in [&there, &link] {
        assert!(matches!(write(&dump(path)), Err(CoredumpError::Exists(it)) if it == *path));
    }
    assert_eq!(fs::read(&there).unwrap(), b"mine");
    assert!(!directory.path().join("elsewhere").exists());
    let nowhere = directory.path().join("no/such/core");
    assert!(matches!(write(&dump(&nowhere)), Err(CoredumpError::Create { .. })));
}

#[test]
fn one_that_is_given_up_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let dump = dump(&directory.path().join("core"));
    dump.ram.guest_memory().write_slice(b"there is data", GuestAddress(0)).unwrap();
    assert!(matches!(dump.write(&AtomicBool::new(true)), Err(CoredumpError::Abandoned)));
    assert!(!dump.path.exists());
}

#[test]
fn a_file_that_cannot_be_written_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let dump = dump(&directory.path().join("core"));
    fs::write(&dump.path, "").unwrap();
    let plan = elf::Plan::new(&[], dump.ram.regions());
    let read_only = File::open(&dump.path).unwrap();
    let failed = dump.fill(&read_only, &plan, &AtomicBool::new(false));
    assert!(matches!(failed, Err(CoredumpError::Write { size, .. }) if size == 80 * MIB + 4096));
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
    assert!(check_limit(MIB, None).is_ok());
    assert!(check_limit(MIB, Some(MIB)).is_ok());
    let error = check_limit(MIB, Some(MIB - 1)).unwrap_err();
    assert!(matches!(error, CoredumpError::Limit { size: MIB, .. }));
}

#[test]
fn the_answer_comes_when_the_guest_may_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let dump = dump(&directory.path().join("core"));
    let (answer, answered) = std::sync::mpsc::channel();
    let dumping = Dumping::start(dump, move |result| answer.send(result).unwrap()).unwrap();
    answered.recv().unwrap().unwrap();
    assert!(dumping.is_over());
    dumping.abandon();
    assert!(directory.path().join("core").exists());
}
