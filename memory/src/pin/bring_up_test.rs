use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use proptest::prelude::*;

use super::*;
use crate::pin::errors::{Cause, Refusal, Stage};
use crate::pin::scripted::{Held, Mapper, Scripted, units};
use crate::pin::trial::Pinner;
use crate::pin::{MapError, serial};
use crate::{AddressLimits, GuestRange, Layout};

#[test]
fn everything_is_mapped_under_a_trial_pin() {
    let kernel = Scripted::new(40);
    let report = kernel.run(&units(20, 4 * MIB), true, 3).unwrap();
    assert_eq!((report.bytes, report.pages, report.retries), (80 * MIB, 20480, 0));
    assert_eq!((report.means.pinners, report.means.bare), (vec![Pinner::HelperIoUring], 0));
    assert_eq!(report.mapped, units(20, 4 * MIB));
}

#[test]
fn progress_is_told_up_to_the_total() {
    let seen = Mutex::new(Vec::new());
    let told = |done, _| seen.lock().unwrap().push(done);
    let units = units(3, 4 * MIB);
    let crews = [Crew::anywhere(&units, 2)];
    run(&Scripted::new(6), &Surveyor::new(), &crews, None, &PinOptions::default(), &told).unwrap();
    assert_eq!(*seen.lock().unwrap(), [4 * MIB, 8 * MIB, 12 * MIB]);
}

#[test]
fn pages_that_are_busy_for_a_while_do_not_fail_the_start() {
    for sighted in [true, false] {
        let kernel =
            Scripted::new(64).holding(&[(3, Held::Until(2)), (40, Held::Until(5)), (41, Held::Until(1))]);
        let kernel = Scripted { sighted, ..kernel };
        let report = kernel.run(&units(2, 64 * MIB), true, 2).unwrap();
        assert!(report.retries > 0 && report.culprits.iter().all(|culprit| !culprit.replaced), "{report:?}");
        assert_eq!(report.mapped, units(2, 64 * MIB));
    }
}

#[test]
fn pages_that_stay_busy_are_replaced() {
    for (held, sighted) in [(Held::Forever, true), (Held::Forever, false), (Held::Stalls, true)] {
        let kernel = Scripted { sighted, ..Scripted::new(32).holding(&[(5, held), (31, held)]) };
        let report = kernel.run(&units(1, 64 * MIB), true, 1).unwrap();
        let replaced: Vec<u64> =
            report.culprits.iter().filter(|it| it.replaced).map(|it| it.guest.start / SUB_UNIT).collect();
        assert_eq!(replaced, [5, 31], "{held:?} {sighted}");
        assert_eq!(report.mapped, units(1, 64 * MIB));
    }
}

#[test]
fn pages_that_stay_busy_and_may_not_be_replaced_fail_it_at_the_deadline() {
    let kernel = Scripted::new(16).holding(&[(6, Held::Forever)]);
    let options = PinOptions { replace_after: None, ..PinOptions::default() };
    let mapper = Mapper(&kernel);
    let units = units(8, 4 * MIB);
    let crews = [Crew::anywhere(&units, 2)];
    let error = run(&kernel, &Surveyor::new(), &crews, Some(&mapper), &options, &|_, _| ()).unwrap_err();
    let PinError::Refused { guest, culprits, cause, attempts, elapsed, refusal, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*guest, culprits.len()), (GuestRange::new(12 * MIB, 2 * MIB), 1));
    assert!(matches!(cause, Cause::Migration { .. }) && *attempts > 40, "{error}");
    assert_eq!((*elapsed, refusal.stage()), (Duration::from_secs(10), Stage::TrialPin));
    assert!(kernel.subs.into_inner().unwrap().iter().all(|sub| !sub.mapped && sub.trial == 0));
}

#[test]
fn pages_of_a_pool_that_lie_in_cma_are_moved() {
    for pinners in [Scripted::new(0).pinners, Vec::new()] {
        let kernel = Scripted { pool: Mutex::new(Some(21)), pinners, ..Scripted::new(64) };
        let report = kernel.run(&units(4, 32 * MIB), true, 1).unwrap();
        assert_eq!((report.retries, report.mapped.iter().map(|it| it.guest.size).sum()), (0, 128 * MIB));
        assert_eq!(kernel.pool.into_inner().unwrap(), Some(0));
    }
    let kernel = Scripted { pool: Mutex::new(Some(21)), memory: Mutex::new(Some(30)), ..Scripted::new(64) };
    let PinError::Refused { cause, .. } = kernel.run(&units(4, 32 * MIB), true, 1).unwrap_err() else {
        panic!()
    };
    assert_eq!(cause, Cause::NoMemory);
}

#[test]
fn lack_of_memory_fails_at_once() {
    let kernel = Scripted { memory: Mutex::new(Some(5)), ..Scripted::new(8) };
    let error = kernel.run(&units(4, 4 * MIB), true, 1).unwrap_err();
    let PinError::Refused { cause, attempts, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*cause, *attempts), (Cause::NoMemory, 1));
}

#[test]
fn a_helper_that_dies_is_started_again_and_given_up_when_it_keeps_dying() {
    let kernel = Scripted { deaths: Mutex::new(vec![0, 2]), ..Scripted::new(8) };
    let report = kernel.run(&units(4, 4 * MIB), true, 1).unwrap();
    assert_eq!(report.means.pinners, [Pinner::HelperIoUring]);
    let kernel = Scripted { deaths: Mutex::new((0..100).collect()), ..Scripted::new(8) };
    let report = kernel.run(&units(4, 4 * MIB), true, 1).unwrap();
    assert_eq!((report.means.pinners, report.means.bare), (vec![Pinner::OwnIoUring], 0));
    assert_eq!(report.means.passed_over, ["the pin helper process: scripted"]);
}

#[test]
fn without_trial_pins_small_maps_pin() {
    for held in [Held::Free, Held::Until(3), Held::Forever] {
        let kernel = Scripted { pinners: vec![], ..Scripted::new(16).holding(&[(3, held)]) };
        let report = kernel.run(&units(4, 8 * MIB), true, 2).unwrap();
        assert_eq!((report.means.pinners.len(), report.means.bare), (0, 32 * MIB));
        assert_eq!(report.means.passed_over, ["the kernel has no io_uring"]);
        // Only what was refused is mapped in smaller pieces.
        assert_eq!(report.mapped.len(), if held == Held::Free { 8 } else { 9 });
    }
}

#[test]
fn a_trial_pin_beyond_the_memlock_limit_does_without() {
    let kernel = Scripted { memlock: Some(2 * MIB), ..Scripted::new(4) };
    // The maps are not limited by the script, so they show that trial pins were not insisted on.
    let report = kernel.run(&units(2, 4 * MIB), true, 1).unwrap();
    assert_eq!(report.means.passed_over, ["the memlock limit (2 MiB) is exceeded"]);
    assert_eq!(report.means.bare, 8 * MIB);
}

#[test]
fn trial_pins_and_maps_that_count_against_one_limit_do_without_trial_pins_in_the_end() {
    // The first unit fits twice, the last does not.
    let limited = |limit| Scripted { memlock: Some(limit), by_user: true, ..Scripted::new(16) };
    let report = limited(32 * MIB).run(&units(4, 8 * MIB), true, 1).unwrap();
    assert_eq!((report.means.bare, report.mapped.len()), (8 * MIB, 5));
    assert_eq!(report.means.passed_over, ["the memlock limit (32 MiB) is exceeded"]);
    let report = limited(40 * MIB).run(&units(4, 8 * MIB), true, 1).unwrap();
    assert_eq!((report.means.bare, report.mapped.len()), (0, 4));
    // Another's trial pins go in time, or do not.
    let crowded = |until| Scripted { others: (8 * MIB, Duration::from_secs(until)), ..limited(32 * MIB) };
    let report = crowded(5).run(&units(4, 8 * MIB), true, 1).unwrap();
    assert_eq!(report.mapped.iter().map(|it| it.guest.size).sum::<u64>(), 32 * MIB);
    let error = crowded(60).run(&units(4, 8 * MIB), true, 1).unwrap_err();
    assert!(matches!(error, PinError::Refused { cause: Cause::Memlock(_), .. }), "{error}");
    let error = limited(24 * MIB).run(&units(4, 8 * MIB), true, 1).unwrap_err();
    let PinError::Refused { cause, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(cause, Cause::Memlock(_)), "{error}");
}

#[test]
fn maps_are_as_large_as_the_room_for_them_asks() {
    let without_trial = |room| Scripted { pinners: vec![], room: Some(room), ..Scripted::new(16) };
    for (room, maps) in [(100, 8), (8, 8), (7, 4), (4, 4)] {
        let report = without_trial(room).run(&units(4, 8 * MIB), true, 1).unwrap();
        assert_eq!(report.mapped.len(), maps, "{room}");
    }
}

#[test]
fn a_map_that_is_refused_for_good_fails_it() {
    let errors = |errno| Mutex::new(BTreeMap::from([(4 * MIB, vec![errno])]));
    for errno in [libc::EEXIST, libc::ENOSPC, libc::EFAULT, libc::ENOMEM] {
        let kernel = Scripted { map_errors: errors(errno), memlock: Some(4 * MIB), ..Scripted::new(4) };
        let error = kernel.run(&units(2, 4 * MIB), true, 1).unwrap_err();
        let PinError::Refused { cause, refusal, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(refusal.as_ref(), Refusal::DmaMap(_)));
        let memlock = matches!(cause, Cause::Memlock(_));
        assert_eq!(memlock, errno == libc::ENOMEM, "{error}");
    }
    let kernel = Scripted { map_errors: errors(libc::EINTR), ..Scripted::new(4) };
    assert_eq!(kernel.run(&units(2, 4 * MIB), true, 1).unwrap().retries, 1);
}

#[test]
fn nothing_to_fault_in_with_is_an_error() {
    let kernel = Scripted { pinners: vec![], ..Scripted::new(4) };
    let error = kernel.run(&units(2, 4 * MIB), false, 2).unwrap_err();
    let reason = "the kernel has no io_uring; the kernel has no io_uring";
    assert!(matches!(&error, PinError::NoPinner { reason: it } if it == reason), "{error}");
}

#[test]
fn real_memory_is_pinned_and_counted() {
    let _alone = serial();
    for populate in [false, true] {
        let ram = GuestRam::new(&Layout::new(64 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
        let mapper = Recorder(&ram, Mutex::new(Vec::new()));
        let threads = NonZero::new(2);
        let options = PinOptions { unit: 2 * MIB, threads, populate, ..PinOptions::default() };
        let report = bring_up(&ram, Some(&mapper), &options, &|_| ()).unwrap();
        assert_eq!(report.mapped, ram.chunks(2 * MIB));
        if report.means.bare > 0 {
            return eprintln!("nothing is pinned here, so nothing to count: {:?}", report.means);
        }
        let census = report.census.as_ref().unwrap();
        assert_eq!((census.total_pages, census.absent), (16384, 0));
        assert_eq!((report.found.is_some(), report.misplaced()), (populate, 0));
        let mut mapped = mapper.1.into_inner().unwrap();
        mapped.sort_unstable_by_key(|chunk| chunk.offset);
        assert_eq!(mapped, report.mapped);
        assert!(report.line(&["0000:00:01.0"]).starts_with("pinned 64 MiB for 0000:00:01.0: 16384 pages, "));
    }
}

#[test]
fn a_piece_is_pinned_and_no_more() {
    let _alone = serial();
    let ram = GuestRam::new(&Layout::new(64 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    // Neither end is that of a sub-unit; some of it is there already.
    let piece = ram.piece(GuestRange::new(5 * MIB + 4096, 9 * MIB)).unwrap();
    ram::populate(&ram.piece(GuestRange::new(7 * MIB, MIB)).unwrap()).unwrap();
    let mapper = Recorder(&ram, Mutex::new(Vec::new()));
    let options = PinOptions { unit: 4 * MIB, replace_after: None, ..PinOptions::default() };
    let report = bring_up_piece(&ram, &piece, &mapper, &options).unwrap();
    let mut mapped = mapper.1.into_inner().unwrap();
    mapped.sort_unstable_by_key(|chunk| chunk.offset);
    assert_eq!((mapped[0].guest.start, mapped[0].hva), (piece.guest.start, piece.hva));
    assert!(mapped.windows(2).all(|pair| pair[0].guest.end() == pair[1].guest.start), "{mapped:?}");
    assert_eq!(mapped.last().unwrap().guest.end(), piece.guest.end());
    assert_eq!((report.bytes, report.mapped), (9 * MIB, mapped));
    // Huge pages are there as a whole.
    assert!(ram.allocated() <= 14 * MIB, "{}", ram.allocated());
}

#[test]
fn memory_is_faulted_in_without_devices() {
    let _alone = serial();
    let ram = GuestRam::new(&Layout::new(32 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    let options = PinOptions { threads: NonZero::new(2), take_turns: true, ..PinOptions::default() };
    let report = match bring_up(&ram, None, &options, &|_| ()) {
        Err(PinError::NoPinner { reason }) => return eprintln!("nothing to fault in with here: {reason}"),
        result => result.unwrap(),
    };
    assert_eq!((report.census.unwrap().absent, report.mapped.len()), (0, 0));
}

#[test]
fn real_contents_survive_a_replacement() {
    let ram = GuestRam::new(&Layout::new(32 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    let options = PinOptions::default();
    let host = Host::new(&ram, &options);
    let chunk = ram.chunks(2 * MIB)[1];
    assert!(!host.is_populated(&chunk));
    let contents: Vec<u8> = (0..SUB_UNIT as u32).map(|i| (i / 4096 + i) as u8).collect();
    host.write(&chunk, &contents).unwrap();
    assert!(host.is_populated(&chunk) && !host.is_populated(&ram.chunks(2 * MIB)[2]));
    assert_eq!(ram.allocated(), SUB_UNIT);
    let kept = host.read(&chunk).unwrap();
    host.punch(&chunk).unwrap();
    assert!(host.read(&chunk).unwrap().iter().all(|byte| *byte == 0) && !host.is_populated(&chunk));
    host.write(&chunk, &kept).unwrap();
    assert_eq!(host.read(&chunk).unwrap(), contents);
}

/// Maps nothing, but touches what it was to map, as the kernel would, and remembers it.
struct Recorder<'a>(&'a GuestRam, Mutex<Vec<Chunk>>);

impl DmaMapper for Recorder<'_> {
    fn map(&self, chunk: &Chunk, _: Option<BorrowedFd<'_>>) -> Result<(), MapError> {
        assert!(self.0.allocated() > 0);
        ram::populate(chunk).unwrap();
        self.1.lock().unwrap().push(*chunk);
        Ok(())
    }
    fn unmap(&self, _: &Chunk) -> Result<(), MapError> {
        Ok(())
    }
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        20 => Just(Held::Free),
        4 => (1..6000u64).prop_map(Held::Until),
        1 => Just(Held::Forever),
        1 => Just(Held::Stalls),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// All or nothing, whatever the kernel does; everything, if there is memory for it. What `run` of the script
    /// asserts holds besides: contents survive, nothing is mapped where it cannot be pinned, no pin is left.
    #[test]
    fn all_or_nothing(
        held in proptest::collection::vec(held(), 24),
        helper: bool,
        own: bool,
        deaths in proptest::collection::vec(0..60u64, 0..6),
        sighted: bool,
        memory in proptest::option::of(10..60u64),
        errors in proptest::collection::vec((0..6u64, prop_oneof![Just(libc::EINTR), Just(libc::EFAULT)]), 0..2),
        threads in 1..4usize,
    ) {
        let hopeless = held.contains(&Held::Stalls) && deaths.len() > 2;
        let holding: Vec<_> = held.into_iter().enumerate().collect();
        let kernel = Scripted {
            pinners: vec![(Pinner::HelperIoUring, helper), (Pinner::OwnIoUring, own)],
            deaths: Mutex::new(deaths),
            map_errors: Mutex::new(errors.iter().map(|(unit, errno)| (unit * 8 * MIB, vec![*errno])).collect()),
            memory: Mutex::new(memory),
            sighted,
            ..Scripted::new(24).holding(&holding)
        };
        match kernel.run(&units(6, 8 * MIB), true, threads) {
            Ok(report) => {
                prop_assert_eq!(report.mapped.iter().map(|chunk| chunk.guest.size).sum::<u64>(), 48 * MIB);
            }
            Err(PinError::Refused { cause, .. }) => {
                let fatal = errors.iter().any(|(_, errno)| *errno == libc::EFAULT);
                let short = memory.is_some_and(|subs| subs < 48);
                prop_assert!(fatal || short || (hopeless && cause == Cause::Stalled), "{cause}");
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
