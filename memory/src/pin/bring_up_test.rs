use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::*;
use crate::GuestRange;
use crate::pin::errors::{Cause, Stage};
use crate::pin::kernel::{Held, Trial};
use crate::pin::privilege::Memlock;
use crate::pin::trial::TrialUnavailable;
use crate::pin::{MapError, serial};
use crate::residency::Vmstat;
use crate::{AddressLimits, Layout};

/// What a scripted call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// ENOMEM, and pages that would not move.
    Stuck,
    /// ENOMEM, and no page that would not move.
    Enomem,
    /// Another error number.
    Errno(i32),
}

/// A kernel that answers as the script says: by stage and first byte, what the first calls come to. Calls
/// beyond the script succeed. Time passes only by waiting.
#[derive(Default)]
struct Scripted {
    script: Mutex<BTreeMap<(bool, u64), Vec<Answer>>>,
    no_trial: bool,
    memlock: Option<u64>,
    failed: AtomicU64,
    clock: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: BTreeSet<u64>,
    mapped: BTreeMap<u64, Chunk>,
    /// Mapped while not held by a trial pin.
    mapped_bare: usize,
}

impl Scripted {
    fn with(script: &[((Stage, u64), &[Answer])]) -> Self {
        let scripted = Self::default();
        for ((stage, start), answers) in script {
            let answers = answers.iter().rev().copied().collect();
            scripted.script.lock().unwrap().insert((*stage == Stage::TrialPin, *start), answers);
        }
        scripted
    }

    fn answer(&self, stage: Stage, chunk: &Chunk) -> io::Result<()> {
        let mut script = self.script.lock().unwrap();
        let answer = script.get_mut(&(stage == Stage::TrialPin, chunk.guest.start)).and_then(Vec::pop);
        let errno = match answer {
            None => return Ok(()),
            Some(Answer::Stuck) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                libc::ENOMEM
            }
            Some(Answer::Enomem) => libc::ENOMEM,
            Some(Answer::Errno(errno)) => errno,
        };
        Err(io::Error::from_raw_os_error(errno))
    }

    fn run(&self, units: &[Chunk], devices: bool) -> Result<PinReport, PinError> {
        let options = PinOptions { bare_unit: 2 * MIB, threads: NonZero::new(3), ..PinOptions::default() };
        let mapper = Mapper(self);
        let result = run(self, units, devices.then_some(&mapper as &dyn DmaMapper), &options, &|_| ());
        assert!(self.state.lock().unwrap().held.is_empty(), "a trial pin is left");
        result
    }
}

struct ScriptedTrial<'a>(&'a Scripted);
struct ScriptedHold<'a>(&'a Scripted, u64);
struct Mapper<'a>(&'a Scripted);

impl Kernel for Scripted {
    fn trial(&self, _: u64) -> Result<Box<dyn Trial + '_>, TrialUnavailable> {
        if self.no_trial { Err(TrialUnavailable::NoIoUring) } else { Ok(Box::new(ScriptedTrial(self))) }
    }
    fn counters(&self) -> Option<Vmstat> {
        Some(Vmstat { pgmigrate_fail: self.failed.load(Ordering::Relaxed), ..Vmstat::default() })
    }
    fn memlock(&self) -> Memlock {
        Memlock { limit: self.memlock }
    }
    fn now(&self) -> Duration {
        Duration::from_micros(self.clock.load(Ordering::Relaxed))
    }
    fn wait(&self, duration: Duration) {
        self.clock.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Trial for ScriptedTrial<'_> {
    fn pin(&self, chunk: &Chunk) -> io::Result<Box<dyn Held + '_>> {
        self.0.answer(Stage::TrialPin, chunk)?;
        assert!(self.0.state.lock().unwrap().held.insert(chunk.guest.start));
        Ok(Box::new(ScriptedHold(self.0, chunk.guest.start)))
    }
}

impl Held for ScriptedHold<'_> {}

impl Drop for ScriptedHold<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().held.remove(&self.1);
    }
}

impl DmaMapper for Mapper<'_> {
    fn map(&self, chunk: &Chunk) -> Result<(), MapError> {
        self.0.answer(Stage::DmaMap, chunk).map_err(|source| MapError {
            call: "TEST_MAP",
            guest: chunk.guest,
            source,
        })?;
        let mut state = self.0.state.lock().unwrap();
        state.mapped_bare += usize::from(!state.held.contains(&chunk.guest.start));
        assert_eq!(state.mapped.insert(chunk.guest.start, *chunk), None);
        Ok(())
    }
    fn unmap(&self, chunk: &Chunk) -> Result<(), MapError> {
        assert_eq!(self.0.state.lock().unwrap().mapped.remove(&chunk.guest.start), Some(*chunk));
        Ok(())
    }
}

fn units(count: u64, size: u64) -> Vec<Chunk> {
    let chunk = |i| Chunk {
        guest: GuestRange::new(i * size, size),
        hva: 0x10_0000_0000 + i * size,
        offset: i * size,
    };
    (0..count).map(chunk).collect()
}

#[test]
fn everything_is_mapped_under_a_trial_pin() {
    let kernel = Scripted::default();
    let report = kernel.run(&units(20, 4 * MIB), true).unwrap();
    assert_eq!((report.bytes, report.pages, report.retries), (80 * MIB, 20480, 0));
    assert_eq!((report.trial, report.mapped), (TrialKind::IoUring, units(20, 4 * MIB)));
    let state = kernel.state.into_inner().unwrap();
    assert_eq!((state.mapped.len(), state.mapped_bare), (20, 0));
}

#[test]
fn small_guests_keep_all_threads_busy() {
    assert_eq!(balanced_unit(512 * MIB, GIB, 1), 256 * MIB);
    assert_eq!(balanced_unit(512 * MIB, GIB, 2), 128 * MIB);
    assert_eq!(balanced_unit(512 * MIB, GIB, 64), 64 * MIB);
    assert_eq!(balanced_unit(1024 * GIB, GIB, 64), GIB);
    assert_eq!(balanced_unit(512 * MIB, 2 * MIB, 1000), 2 * MIB);
    assert_eq!(balanced_unit(u64::MAX, 0x1000, usize::MAX), 0x1000);
}

#[test]
fn progress_is_told_up_to_the_total() {
    let seen = Mutex::new(Vec::new());
    let options = PinOptions { threads: NonZero::new(2), ..PinOptions::default() };
    let told = |progress: Progress| seen.lock().unwrap().push((progress.done, progress.total));
    run(&Scripted::default(), &units(3, 4 * MIB), None, &options, &told).unwrap();
    let expected: Vec<_> = (1..=3).map(|n| (n * 4 * MIB, 12 * MIB)).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn pages_that_are_busy_for_a_while_do_not_fail_the_start() {
    let busy = [Answer::Stuck; 5];
    let interrupted = [Answer::Errno(libc::EINTR)];
    let script: [((Stage, u64), &[Answer]); 3] = [
        ((Stage::TrialPin, 0), &busy),
        ((Stage::DmaMap, 4 * MIB), &busy[..2]),
        ((Stage::TrialPin, 8 * MIB), &interrupted),
    ];
    let report = Scripted::with(&script).run(&units(4, 4 * MIB), true).unwrap();
    assert_eq!((report.retries, report.trial), (8, TrialKind::IoUring));
}

#[test]
fn pages_that_stay_busy_fail_it_at_the_deadline_and_leave_nothing() {
    let forever = [Answer::Stuck; 500];
    let kernel = Scripted::with(&[((Stage::TrialPin, 12 * MIB), &forever)]);
    let error = kernel.run(&units(8, 4 * MIB), true).unwrap_err();
    let PinError::Refused { guest, cause, attempts, elapsed, refusal, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*guest, GuestRange::new(12 * MIB, 4 * MIB));
    assert!(matches!(cause, Cause::Migration { .. }) && *attempts > 40, "{error}");
    assert_eq!((*elapsed, refusal.stage()), (Duration::from_secs(10), Stage::TrialPin));
    assert!(kernel.state.into_inner().unwrap().mapped.is_empty());
}

#[test]
fn lack_of_memory_fails_at_once() {
    let kernel = Scripted::with(&[((Stage::DmaMap, 4 * MIB), &[Answer::Enomem])]);
    let error = kernel.run(&units(4, 4 * MIB), true).unwrap_err();
    let PinError::Refused { cause, attempts, refusal, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*cause, *attempts, refusal.stage()), (Cause::NoMemory, 1, Stage::DmaMap));
    assert!(kernel.state.into_inner().unwrap().mapped.is_empty());
}

#[test]
fn without_io_uring_small_maps_pin() {
    let kernel =
        Scripted { no_trial: true, ..Scripted::with(&[((Stage::DmaMap, 6 * MIB), &[Answer::Stuck; 3])]) };
    let report = kernel.run(&units(4, 4 * MIB), true).unwrap();
    assert_eq!(report.trial, TrialKind::DmaMap { reason: "the kernel has no io_uring".to_owned() });
    assert_eq!((report.mapped, report.retries), (units(8, 2 * MIB), 3));
}

#[test]
fn a_trial_pin_beyond_the_memlock_limit_does_without() {
    let kernel =
        Scripted { memlock: Some(64 * MIB), ..Scripted::with(&[((Stage::TrialPin, 0), &[Answer::Enomem])]) };
    let report = kernel.run(&units(2, 4 * MIB), true).unwrap();
    let reason = "the memlock limit (64 MiB) is exceeded".to_owned();
    assert_eq!(report.trial, TrialKind::DmaMap { reason });
    assert_eq!(report.mapped.len(), 3);
}

#[test]
fn a_map_beyond_the_memlock_limit_fails_with_it() {
    let kernel = Scripted {
        memlock: Some(4 * MIB),
        ..Scripted::with(&[((Stage::DmaMap, 4 * MIB), &[Answer::Enomem])])
    };
    let error = kernel.run(&units(2, 4 * MIB), true).unwrap_err();
    assert!(error.to_string().contains("the memlock limit (4 MiB) is exceeded (1 attempts"), "{error}");
}

#[test]
fn nothing_to_fault_in_with_is_an_error() {
    let kernel = Scripted { no_trial: true, ..Scripted::default() };
    let error = kernel.run(&units(2, 4 * MIB), false).unwrap_err();
    assert!(
        matches!(&error, PinError::NoPinner { reason } if reason == "the kernel has no io_uring"),
        "{error}"
    );
}

#[test]
fn real_memory_is_pinned_and_counted() {
    let _alone = serial();
    let ram = GuestRam::new(&Layout::new(64 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    let mapper = Recorder(Mutex::new(Vec::new()));
    let options = PinOptions { unit: 2 * MIB, threads: NonZero::new(2), ..PinOptions::default() };
    let report = bring_up(&ram, Some(&mapper), &options, &|_| ()).unwrap();
    assert_eq!(report.mapped, ram.chunks(2 * MIB));
    if let TrialKind::DmaMap { reason } = &report.trial {
        return eprintln!("nothing is pinned here, so nothing to count: {reason}");
    }
    let census = &report.census;
    assert_eq!((census.total_pages, census.absent), (16384, 0));
    let mut mapped = mapper.0.into_inner().unwrap();
    mapped.sort_unstable_by_key(|chunk| chunk.offset);
    assert_eq!(mapped, report.mapped);
    assert!(
        report.line(&["0000:00:01.0"]).starts_with("pinned 64 MiB for 0000:00:01.0: 16384 pages, 0 in CMA")
    );
}

#[test]
fn memory_is_faulted_in_without_devices() {
    let _alone = serial();
    let ram = GuestRam::new(&Layout::new(32 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    let options = PinOptions { unit: 2 * MIB, threads: NonZero::new(2), ..PinOptions::default() };
    let report = match bring_up(&ram, None, &options, &|_| ()) {
        Err(PinError::NoPinner { reason }) => return eprintln!("nothing to fault in with here: {reason}"),
        result => result.unwrap(),
    };
    assert_eq!((report.census.absent, report.mapped.len()), (0, 0));
    assert!(!report.census.is_exact() || report.census.in_cma() + report.census.movable == 0);
}

/// Maps nothing, but remembers what it was to map.
struct Recorder(Mutex<Vec<Chunk>>);

impl DmaMapper for Recorder {
    fn map(&self, chunk: &Chunk) -> Result<(), MapError> {
        self.0.lock().unwrap().push(*chunk);
        Ok(())
    }
    fn unmap(&self, _: &Chunk) -> Result<(), MapError> {
        Ok(())
    }
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let answer = prop_oneof![
        8 => Just(Answer::Stuck),
        2 => Just(Answer::Errno(libc::EINTR)),
        1 => Just(Answer::Enomem),
        1 => Just(Answer::Errno(libc::EFAULT)),
        1 => Just(Answer::Errno(libc::EEXIST)),
    ];
    proptest::collection::vec(answer, 0..4)
}

proptest! {
    /// All or nothing, whatever the kernel answers.
    #[test]
    fn all_or_nothing(
        trials in proptest::collection::vec(answers(), 6),
        maps in proptest::collection::vec(answers(), 6),
        no_trial: bool,
        memlock in proptest::option::of(MIB..64 * MIB),
    ) {
        let size = 4 * MIB;
        let script: Vec<_> = (0..).zip(&trials).map(|(i, a)| ((Stage::TrialPin, i * size), a.as_slice()))
            .chain((0..).zip(&maps).map(|(i, a)| ((Stage::DmaMap, i * size), a.as_slice())))
            .collect();
        let kernel = Scripted { no_trial, memlock, ..Scripted::with(&script) };
        let result = kernel.run(&units(6, size), true);
        let state = kernel.state.into_inner().unwrap();
        match result {
            Ok(report) => {
                let mapped: Vec<Chunk> = state.mapped.into_values().collect();
                prop_assert_eq!(mapped.iter().map(|chunk| chunk.guest.size).sum::<u64>(), 6 * size);
                prop_assert_eq!(&mapped, &report.mapped);
                prop_assert_eq!(state.mapped_bare > 0, report.trial != TrialKind::IoUring);
            }
            Err(PinError::Refused { .. }) => prop_assert!(state.mapped.is_empty()),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
