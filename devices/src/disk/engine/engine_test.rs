use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::disk::testing::{DATA, Images, Rig, ranges, read_qcow2};
use crate::disk::{DiskError, DiskOptions};

/// Bytes of the disks here.
const SIZE: u64 = 1 << 20;

/// The ways a disk is served: raw with io_uring, past the page cache, and by threads; qcow2, and qcow2 on a base.
fn rigs(images: &Images) -> Vec<(&'static str, Rig)> {
    let raw = Rig::new(&DiskOptions::new(images.raw("ring.img", SIZE)));
    let mut threads = Rig::new(&DiskOptions::new(images.raw("threads.img", SIZE)));
    threads.engine.ring = None;
    images.raw("base.img", SIZE);
    let qcow2 = DiskOptions::new(images.qcow2("a.qcow2", SIZE, None));
    let based = images.qcow2("b.qcow2", SIZE, Some(("base.img", "raw")));
    let based = DiskOptions { backing: true, ..DiskOptions::new(based) };
    let mut rigs = vec![
        ("raw", raw),
        ("threads", threads),
        ("qcow2", Rig::new(&qcow2)),
        ("qcow2 with a base", Rig::new(&based)),
    ];
    let direct = DiskOptions { direct: true, ..DiskOptions::new(images.raw("direct.img", SIZE)) };
    match Disk::open(&direct).map(drop) {
        Ok(()) => rigs.push(("direct", Rig::new(&direct))),
        // As on some tmpfs and overlay file systems.
        Err(error) => assert!(matches!(error, DiskError::Direct { .. }), "{error:?}"),
    }
    rigs
}

#[derive(Clone, Debug)]
enum Step {
    Write { sector: u64, pieces: Vec<u64>, skew: u64, durable: bool, byte: u8 },
    Read { sector: u64, pieces: Vec<u64>, skew: u64 },
    Zero { sector: u64, sectors: u64, unmap: bool },
    Discard { sector: u64, sectors: u64 },
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    // A whole number of sectors in pieces that are not.
    let pieces = || {
        (prop::collection::vec(1_u64..6000, 0..6), 1_u64..8).prop_map(|(mut pieces, sectors)| {
            let sum: u64 = pieces.iter().sum();
            pieces.push(sum.next_multiple_of(512) - sum + 512 * sectors);
            pieces
        })
    };
    let sector = || 0..SIZE / 512;
    let skew = || prop_oneof![Just(0_u64), Just(512), 1_u64..4096];
    prop_oneof![
        4 => (sector(), pieces(), skew(), any::<bool>(), any::<u8>())
            .prop_map(|(sector, pieces, skew, durable, byte)| Step::Write { sector, pieces, skew, durable, byte }),
        4 => (sector(), pieces(), skew()).prop_map(|(sector, pieces, skew)| Step::Read { sector, pieces, skew }),
        1 => (sector(), 1_u64..300, any::<bool>())
            .prop_map(|(sector, sectors, unmap)| Step::Zero { sector, sectors, unmap }),
        1 => (sector(), 1_u64..300).prop_map(|(sector, sectors)| Step::Discard { sector, sectors }),
        1 => Just(Step::Flush),
    ]
}

/// What the disk should hold; `None` where a discard left that open.
struct Model(Vec<Option<u8>>);

impl Model {
    fn range(&mut self, offset: u64, length: u64) -> Option<&mut [Option<u8>]> {
        self.0.get_mut(offset as usize..(offset + length) as usize)
    }

    fn set(&mut self, offset: u64, length: u64, byte: Option<u8>) -> bool {
        self.range(offset, length).map(|range| range.fill(byte)).is_some()
    }
}

fn fill(rig: &Rig, skew: u64, pieces: &[u64], byte: u8) {
    for range in ranges(skew, pieces) {
        let bytes = vec![byte; range.size as usize];
        rig.ram.guest_memory().write_slice(&bytes, GuestAddress(range.start)).unwrap();
    }
}

fn take(rig: &Rig, skew: u64, pieces: &[u64]) -> Vec<u8> {
    let mut all = Vec::new();
    for range in ranges(skew, pieces) {
        let mut bytes = vec![0; range.size as usize];
        rig.ram.guest_memory().read_slice(&mut bytes, GuestAddress(range.start)).unwrap();
        all.extend(bytes);
    }
    all
}

fn apply(rig: &mut Rig, model: &mut Model, step: &Step) {
    match step {
        Step::Write { sector, pieces, skew, durable, byte } => {
            let (offset, length) = (sector * 512, pieces.iter().sum());
            fill(rig, *skew, pieces, *byte);
            let from = rig.buffers(*skew, pieces);
            let result = rig.run(Operation::Write { offset, from, durable: *durable });
            assert_eq!(result.is_ok(), model.set(offset, length, Some(*byte)), "{step:?}: {result:?}");
        }
        Step::Read { sector, pieces, skew } => {
            let (offset, length) = (sector * 512, pieces.iter().sum());
            fill(rig, *skew, pieces, 0xee);
            let into = rig.buffers(*skew, pieces);
            let result = rig.run(Operation::Read { offset, into });
            let Some(expected) = model.range(offset, length) else {
                assert!(result.is_err(), "{step:?}");
                return;
            };
            result.unwrap();
            let found = take(rig, *skew, pieces);
            let differ = |(expected, found): (&Option<u8>, &u8)| expected.is_some_and(|byte| byte != *found);
            let first = expected.iter().zip(&found).position(differ);
            assert_eq!(first, None, "{step:?}");
        }
        Step::Zero { sector, sectors, unmap } => {
            let (offset, length) = (sector * 512, sectors * 512);
            let result = rig.run(Operation::WriteZeroes { offset, length, unmap: *unmap });
            assert_eq!(result.is_ok(), model.set(offset, length, Some(0)), "{step:?}: {result:?}");
        }
        Step::Discard { sector, sectors } => {
            let (offset, length) = (sector * 512, sectors * 512);
            let result = rig.run(Operation::Discard { offset, length });
            assert_eq!(result.is_ok(), model.set(offset, length, None), "{step:?}: {result:?}");
        }
        Step::Flush => rig.run(Operation::Flush).unwrap(),
    }
}

#[test]
fn what_is_read_is_what_was_written_last() {
    let images = Images::new();
    let mut rigs = rigs(&images);
    let mut models: Vec<Model> = rigs.iter().map(|_| Model(vec![Some(0); SIZE as usize])).collect();
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    // The disks live through all cases, so that they become as full of history as those of guests.
    let shared = std::cell::RefCell::new((&mut rigs, &mut models));
    let outcome = runner.run(&step(), |step| {
        let (rigs, models) = &mut *shared.borrow_mut();
        for ((_, rig), model) in rigs.iter_mut().zip(models.iter_mut()) {
            apply(rig, model, &step);
        }
        Ok(())
    });
    outcome.unwrap();
    drop(rigs);
    let qcow2 = &models[2].0;
    let found = read_qcow2(&images.path("a.qcow2"), 0, SIZE as usize);
    assert!(qcow2.iter().zip(&found).all(|(expected, found)| expected.is_none_or(|byte| byte == *found)));
}

#[test]
fn many_at_once_are_each_done_once() {
    let images = Images::new();
    for (name, mut rig) in rigs(&images) {
        for round in 0..4_u8 {
            let page = |token: u64| DATA + token * 4096;
            let buffers = |rig: &Rig, token| {
                Buffers::new(&rig.ram, [memory::GuestRange::new(page(token), 4096)]).unwrap()
            };
            for writes in [true, false] {
                for token in 0..64 {
                    let byte = round.wrapping_add(token as u8);
                    let content = if writes { byte } else { 0xee };
                    rig.ram.guest_memory().write_slice(&[content; 4096], GuestAddress(page(token))).unwrap();
                    let (offset, buffers) = (token * 8192, buffers(&rig, token));
                    let operation = if writes {
                        Operation::Write { offset, from: buffers, durable: false }
                    } else {
                        Operation::Read { offset, into: buffers }
                    };
                    rig.engine.submit(token, operation).unwrap();
                }
                assert_eq!(rig.engine.submit(64, Operation::Flush), Err(Refused::Full));
                rig.engine.kick().unwrap();
                let mut seen = std::collections::BTreeSet::new();
                while rig.engine.in_flight() > 0 {
                    rig.engine.wait();
                    for completion in rig.engine.completed().unwrap() {
                        completion.result.unwrap();
                        assert!(seen.insert(completion.token), "{name}: {} twice", completion.token);
                    }
                }
                assert_eq!(seen.len(), 64);
            }
            for token in 0..64 {
                let mut found = [0; 4096];
                rig.ram.guest_memory().read_slice(&mut found, GuestAddress(page(token))).unwrap();
                assert_eq!(found, [round.wrapping_add(token as u8); 4096], "{name}");
            }
        }
    }
}

#[test]
fn an_engine_that_goes_waits_for_what_is_in_flight() {
    let images = Images::new();
    for (name, mut rig) in rigs(&images) {
        fill(&rig, 0, &[SIZE / 2], 5);
        let from = rig.buffers(0, &[SIZE / 2]);
        rig.engine.submit(0, Operation::Write { offset: 0, from, durable: false }).unwrap();
        rig.engine = Engine::new(&rig.disk, 1).unwrap();
        assert_eq!(rig.read(SIZE / 2 - 4096, 4096).unwrap(), [5; 4096], "{name}");
    }
}

#[test]
fn nothing_outside_the_disk_is_begun() {
    let images = Images::new();
    for (_, mut rig) in rigs(&images) {
        for (offset, length) in [(SIZE, 512), (SIZE - 512, 1024), (u64::MAX - 511, 512), (u64::MAX, u64::MAX)]
        {
            let refused = rig.engine.submit(0, Operation::Discard { offset, length });
            assert_eq!(refused, Err(Refused::Range { offset, length, size: SIZE }));
        }
        assert_eq!(rig.engine.in_flight(), 0);
    }
}

#[test]
fn an_image_that_was_cut_off_is_an_error_and_no_hang() {
    let images = Images::new();
    let path = images.raw("cut.img", SIZE);
    for threads in [false, true] {
        let mut rig = Rig::new(&DiskOptions::new(&path));
        if threads {
            rig.engine.ring = None;
        }
        std::fs::File::options().write(true).open(&path).unwrap().set_len(SIZE / 2).unwrap();
        assert!(rig.read(SIZE / 2 - 512, 1024).is_err());
        std::fs::File::options().write(true).open(&path).unwrap().set_len(SIZE).unwrap();
    }
}
