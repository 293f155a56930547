//! The pin helper as a process of its own: it pins, is killed, is stopped, is denied io_uring, and no memory stays
//! pinned. This executable is its own helper, hence no test harness: `pin-helper` as the first argument makes it one.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::fs;
use std::num::NonZero;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memory::bytes::MIB;
use memory::pin::{
    Chunk, DmaMapper, HelperCommand, MapError, PinError, PinOptions, PinReport, Pinner, TrialRing, bring_up,
    helper,
};
use memory::residency::Vmstat;
use memory::{AddressLimits, GuestRam, Layout};
use rustix::process::{Pid, Signal, kill_process};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("pin-helper", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        let code = i32::from(helper::serve(rest).is_err());
        std::process::exit(code);
    }
    let tests: [(&str, fn()); 5] = [
        ("a_helper_pins_and_leaves_nothing", a_helper_pins_and_leaves_nothing),
        ("a_helper_that_is_killed_is_replaced", a_helper_that_is_killed_is_replaced),
        ("a_helper_that_is_stopped_does_not_stop_us", a_helper_that_is_stopped_does_not_stop_us),
        ("what_cannot_be_executed_is_done_without", what_cannot_be_executed_is_done_without),
        ("what_is_no_helper_is_done_without", what_is_no_helper_is_done_without),
    ];
    if let Err(reason) = TrialRing::new(1) {
        return println!("skipped: {reason}");
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    for (name, test) in tests {
        if wanted.is_none_or(|wanted| name.contains(wanted.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
}

/// Maps nothing, but does something meanwhile.
struct Meanwhile<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync> DmaMapper for Meanwhile<F> {
    fn map(&self, _: &Chunk, _: Option<BorrowedFd<'_>>) -> Result<(), MapError> {
        (self.0)();
        Ok(())
    }
    fn unmap(&self, _: &Chunk) -> Result<(), MapError> {
        Ok(())
    }
}

fn start(options: PinOptions, meanwhile: impl Fn() + Send + Sync) -> Result<PinReport, PinError> {
    let ram = GuestRam::new(&Layout::new(256 * MIB, &AddressLimits::cpu_only(46)).unwrap()).unwrap();
    let threads = NonZero::new(2);
    let helper = options.helper.clone().or_else(|| Some(HelperCommand::this_executable("pin-helper")));
    let options = PinOptions { threads, helper, ..options };
    let before = Vmstat::read().unwrap();
    let result = bring_up(&ram, Some(&Meanwhile(meanwhile)), &options, &|_| ());
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let since = Vmstat::read().unwrap().since(&before);
        let left = since.nr_foll_pin_acquired.abs_diff(since.nr_foll_pin_released);
        // Each CPU may have up to a batch of both still to be added up.
        if (children().is_empty() && left < 1000) || Instant::now() > until {
            assert!(children().is_empty(), "a helper is left");
            assert!(left < 1000, "{left} pages stay pinned");
            return result;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn children() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn signal_all(signal: Signal) -> usize {
    let pids: Vec<Pid> = children().into_iter().filter_map(Pid::from_raw).collect();
    pids.iter().filter(|pid| kill_process(**pid, signal).is_ok()).count()
}

fn a_helper_pins_and_leaves_nothing() {
    for populate in [false, true] {
        let helpers = Mutex::new(0);
        let report = start(PinOptions { populate, ..PinOptions::default() }, || {
            let mut most = helpers.lock().unwrap();
            *most = children().len().max(*most);
        });
        let report = report.unwrap();
        assert_eq!((report.means.pinners, report.retries), (vec![Pinner::HelperIoUring], 0));
        assert!((1..=2).contains(&helpers.into_inner().unwrap()));
        // Though nobody but the helper has touched them: nothing was mapped by address.
        assert_eq!(report.census.map(|census| census.absent), Some(0), "pages that were not counted");
    }
}

fn a_helper_that_is_killed_is_replaced() {
    let killed = AtomicBool::new(false);
    let report = start(PinOptions::default(), || {
        // Between the trial pin and the next unit's.
        if !killed.swap(true, Ordering::Relaxed) {
            assert!(signal_all(Signal::KILL) > 0);
        }
    });
    let report = report.unwrap();
    assert!(report.retries > 0 && report.means.pinners == [Pinner::HelperIoUring], "{report:?}");

    let report = start(PinOptions::default(), || {
        signal_all(Signal::KILL);
    });
    let report = report.unwrap();
    assert_eq!(report.bytes, 256 * MIB);
}

fn a_helper_that_is_stopped_does_not_stop_us() {
    let stopped = AtomicBool::new(false);
    let started = Instant::now();
    let report = start(PinOptions { stall: Duration::from_secs(1), ..PinOptions::default() }, || {
        if !stopped.swap(true, Ordering::Relaxed) {
            assert!(signal_all(Signal::STOP) > 0);
        }
    });
    let report = report.unwrap();
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(report.retries > 0 && report.bytes == 256 * MIB);
}

fn what_cannot_be_executed_is_done_without() {
    let helper = Some(HelperCommand { program: "/nonexistent".into(), arguments: vec![] });
    let report = start(PinOptions { helper, ..PinOptions::default() }, || ()).unwrap();
    assert_eq!(report.means.pinners, [Pinner::OwnIoUring]);
    assert!(report.means.passed_over.iter().any(|it| it.contains("cannot be started")), "{report:?}");
}

fn what_is_no_helper_is_done_without() {
    let helper = Some(HelperCommand { program: "/bin/true".into(), arguments: vec![] });
    let report = start(PinOptions { helper, ..PinOptions::default() }, || ()).unwrap();
    assert_eq!(report.means.pinners, [Pinner::OwnIoUring]);
    assert!(report.means.passed_over.iter().any(|it| it.contains("exit code 0")), "{report:?}");
}
