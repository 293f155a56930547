use std::fs::{self, File};

use memory::bytes::MIB;

use super::*;
use crate::disk::DiskError;
use crate::virtio::testing::{BUFFERS, DriverRing, Guest};

const AT: GuestRange = GuestRange::new(4 << 30, 4 * MIB);
const ANSWER: u64 = BUFFERS + 64;

/// A directory of its own.
fn directory(name: &str) -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("vmm-pmem-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn made(path: &Path, size: u64) -> PmemOptions {
    File::create(path).unwrap().set_len(size).unwrap();
    PmemOptions { path: path.to_owned(), read_only: false, size: None, lock: true }
}

/// Has requests of these kinds made at once, and gives their answers.
fn ask(file: PmemFile, kinds: &[u32]) -> Vec<u32> {
    let guest = Guest::new(Arc::new(Pmem::new(Arc::new(file), AT)));
    let mut ring = DriverRing::new(&guest.ram, 0, 64, false);
    guest.start(ring.features(), &[&ring]);
    for (number, kind) in (0..).zip(kinds) {
        ring.put(BUFFERS + number * 128, *kind);
        ring.put(ANSWER + number * 128, 99_u32);
        ring.add(&[(BUFFERS + number * 128, 4)], &[(ANSWER + number * 128, 4)]);
    }
    guest.kick(0);
    for _ in kinds {
        assert_eq!(guest.wait_for_used(0, &mut ring).1, 4);
    }
    (0..).zip(kinds).map(|(number, _)| ring.get(ANSWER + number * 128)).collect()
}

#[test]
fn a_flush_is_answered_and_what_is_none_is_refused() {
    let directory = directory("flush");
    let options = made(&directory.join("a"), 4 * MIB);
    assert_eq!(ask(PmemFile::open(&options).unwrap(), &[FLUSH, 7, FLUSH, u32::MAX]), [0, 1, 0, 1]);
    let read_only = PmemOptions { read_only: true, ..options };
    assert_eq!(ask(PmemFile::open(&read_only).unwrap(), &[FLUSH]), [DONE]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_flush_that_fails_is_an_error() {
    // Nothing can be flushed to a pipe (EINVAL).
    let (_reader, writer) = io::pipe().unwrap();
    let file = PmemFile::of_parts(File::from(std::os::fd::OwnedFd::from(writer)));
    assert_eq!(ask(file, &[FLUSH, FLUSH, FLUSH]), [FAILED; 3]);
}

#[test]
fn a_request_without_room_for_an_answer_stops_the_device() {
    let directory = directory("broken");
    for (readable, writable) in [(4, 3), (3, 4)] {
        let file = PmemFile::open(&made(&directory.join("a"), 4 * MIB)).unwrap();
        let guest = Guest::new(Arc::new(Pmem::new(Arc::new(file), AT)));
        let mut ring = DriverRing::new(&guest.ram, 0, 8, false);
        guest.start(ring.features(), &[&ring]);
        ring.put(BUFFERS, FLUSH);
        ring.add(&[(BUFFERS, readable)], &[(ANSWER, writable)]);
        guest.kick(0);
        guest.wait_for_vector(0);
        assert_eq!(guest.status() & 0x40, 0x40, "it asks for a reset");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn its_place_is_told() {
    let directory = directory("place");
    let file = PmemFile::open(&made(&directory.join("a"), 4 * MIB)).unwrap();
    let device = Pmem::new(Arc::new(file), AT);
    let mut fields = [[0; 8]; 3];
    (0..).zip(&mut fields).for_each(|(index, field)| device.read_config(index * 8, field));
    assert_eq!(fields.map(u64::from_le_bytes), [AT.start, AT.size, 0]);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_cannot_be_persistent_memory_is_refused() {
    let directory = directory("refused");
    let path = directory.join("a");
    let refuse = |options: &PmemOptions| PmemFile::open(options).unwrap_err();
    let whole = made(&path, 4 * MIB);
    assert_eq!(
        PmemFile::open(&PmemOptions { size: Some(2 * MIB), ..whole.clone() }).unwrap().size(),
        2 * MIB
    );
    for size in [0, 4096, 3 * MIB] {
        let options = PmemOptions { size: Some(size), ..whole.clone() };
        assert!(matches!(refuse(&options), PmemError::UnevenSize { .. }));
    }
    let more = PmemOptions { size: Some(6 * MIB), ..whole.clone() };
    assert!(matches!(refuse(&more), PmemError::Short { bytes: 4_194_304, size: 6_291_456, .. }));
    assert!(matches!(refuse(&made(&path, 0)), PmemError::Empty { .. }));
    let uneven = refuse(&made(&path, 5 * MIB));
    assert!(matches!(uneven, PmemError::Uneven { .. }));
    assert!(uneven.to_string().ends_with("has 5242880 bytes, which is not a multiple of 2 MiB"), "{uneven}");
    assert!(matches!(refuse(&made(&directory.join("a.QCOW2"), MIB)), PmemError::Format { .. }));
    let missing = refuse(&PmemOptions { path: directory.join("none"), ..whole.clone() });
    assert!(missing.to_string().starts_with("the pmem file "), "{missing}");
    let not = refuse(&PmemOptions { path: directory.clone(), ..whole });
    assert!(not.to_string().ends_with(" is a directory and no pmem file"), "{not}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn it_has_one_writer_or_readers() {
    let directory = directory("lock");
    let options = made(&directory.join("a"), 2 * MIB);
    let read_only = PmemOptions { read_only: true, ..options.clone() };
    let held = PmemFile::open(&options).unwrap();
    for options in [&options, &read_only] {
        assert!(matches!(PmemFile::open(options), Err(PmemError::File(DiskError::Locked { .. }))));
    }
    assert!(PmemFile::open(&PmemOptions { lock: false, ..read_only.clone() }).is_ok());
    drop(held);
    let [_first, _second] = [(); 2].map(|()| PmemFile::open(&read_only).unwrap());
    assert!(PmemFile::open(&options).is_err());
    fs::remove_dir_all(directory).unwrap();
}
