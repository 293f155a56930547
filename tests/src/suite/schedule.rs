//! Runs the cases: a few hosts at a time, one case after another in each. A host serves all cases that ask
//! for its like; a case that fails takes its host with it, so that the next starts from a clean one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::calls::{self, Calls};
use super::case::SPINNING;
use super::{Case, Cost, Ctx, Tally};
use crate::Error;
use crate::host::{Host, HostError, HostKernel, HostSpec, last_lines};
use crate::product::Product;
use crate::setup::Artefacts;

/// Hosts at a time even on a small machine: each waits now and then, for devices and for what it has been asked.
const LEAST_HOSTS: usize = 3;
/// More would each boot for a handful of cases, and take 3 GiB of memory.
const MOST_HOSTS: usize = 8;
/// Lines of a host's kernel log that a failure shows.
const DMESG: usize = 60;
/// Lines of what a case did that the summary shows of a failure.
const GIST: usize = 12;

/// Runs all of `cases` and counts them.
pub(super) fn run(
    cases: Vec<Case>,
    artefacts: &Artefacts,
    product: &Product,
    calls: Option<&Mutex<Calls>>,
) -> Tally {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let hosts = (cores / 2).clamp(LEAST_HOSTS, MOST_HOSTS).min(cases.len());
    let queue = Queue::new(cases);
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..hosts {
            scope.spawn(|| work(&queue, artefacts, product, calls, &tally));
        }
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn work(
    queue: &Queue,
    artefacts: &Artefacts,
    product: &Product,
    calls: Option<&Mutex<Calls>>,
    tally: &Mutex<Tally>,
) {
    let tally = || tally.lock().unwrap_or_else(PoisonError::into_inner);
    let mut current: Option<(HostSpec, Host)> = None;
    let mut last = None;
    while let Some(case) = queue.next(last.as_ref()) {
        last = Some(case.host.clone());
        let calls = calls.filter(|_| case.host.kernel == HostKernel::Lab);
        let reusable = current.take().filter(|(spec, _)| *spec == case.host);
        let booted = match reusable {
            Some((_, host)) => Ok(host),
            None => Host::boot(&case.host, artefacts, Some(&product.vmm())).and_then(|host| {
                tally().costs.boot(Cost { cpu: host.cpu_time(), wall: host.boot_time() });
                calls.map_or(Ok(()), |_| calls::count(&host)).map(|()| host)
            }),
        };
        let (name, started) = (case.name, Instant::now());
        let (outcome, cpu) = match booted {
            Ok(host) => {
                let before = host.cpu_time();
                let outcome = run_case(&case, &host, artefacts, product);
                let cpu = host.cpu_time().saturating_sub(before);
                // After each case, since the host may be gone after the next. One that is gone has told enough already.
                if let Some(calls) = calls {
                    let _ = calls.lock().unwrap_or_else(PoisonError::into_inner).add(&host);
                }
                (outcome.map(|used| (host, used)), cpu)
            }
            Err(e) => (Err(Report::of_boot(e)), Duration::ZERO),
        };
        let cost = Cost { cpu, wall: started.elapsed() };
        let mut tally = tally();
        tally.costs.case(name, cost);
        match outcome {
            Ok((host, used)) => {
                println!("ok     {name} ({cost})");
                tally.pass(name);
                tally.uses.add(name, used);
                current = Some((case.host, host));
            }
            Err(Report { text, .. }) if was_lost_by_emulator(&text) && queue.put_back(case) => {
                println!("AGAIN  {name} ({cost}): signs of an error of QEMU, no verdict\n{text}");
            }
            Err(Report { text, gist }) => {
                println!("FAILED {name} ({cost})\n{text}");
                tally.fail(name, gist);
            }
        }
    }
}

/// Gives the options of devices that its machines had.
fn run_case(
    case: &Case,
    host: &Host,
    artefacts: &Artefacts,
    product: &Product,
) -> Result<BTreeSet<String>, Report> {
    let ctx = Ctx::new(host, artefacts, product);
    match (case.run)(&ctx) {
        Ok(()) => Ok(ctx.into_used()),
        Err(failure) => Err(Report::of_case(&failure.to_string(), &ctx.transcript(), host)),
    }
}

/// How often a case may end with signs of an error of QEMU before that is a failure.
const TRIES: u32 = 3;

/// Cases that have not started.
struct Queue {
    cases: Mutex<Vec<Case>>,
    /// What hosts run now.
    served: Mutex<Vec<HostSpec>>,
    /// How often those were put back that were, by name.
    again: Mutex<BTreeMap<&'static str, u32>>,
}

impl Queue {
    fn new(cases: Vec<Case>) -> Self {
        Self { cases: Mutex::new(cases), served: Mutex::default(), again: Mutex::default() }
    }

    /// A case for a host like the last one, else one of those that most cases ask for. A second host of a kind is booted only when there
    /// is a first one of each.
    fn next(&self, last: Option<&HostSpec>) -> Option<Case> {
        let mut cases = self.cases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = cases.iter().position(|case| Some(&case.host) == last) {
            return Some(cases.remove(same));
        }
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = served.iter().position(|host| Some(host) == last) {
            served.swap_remove(left);
        }
        let like = |case: &Case| cases.iter().filter(|other| other.host == case.host).count();
        let rank = |case: &Case| (!served.contains(&case.host), like(case));
        // Of equals the first, so that cases run in the order they are listed.
        let best = cases.iter().map(rank).max()?;
        let index = cases.iter().position(|case| rank(case) == best)?;
        let case = cases.remove(index);
        served.push(case.host.clone());
        Some(case)
    }

    /// Has a case run once more; false if it has been often enough.
    fn put_back(&self, case: Case) -> bool {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        let times = again.entry(case.name).or_default();
        *times += 1;
        let once_more = *times < TRIES;
        if once_more {
            self.cases.lock().unwrap_or_else(PoisonError::into_inner).push(case);
        }
        once_more
    }
}

/// Whether the report has the signs of what QEMU does now and then (docs/lab.md): the host stands still while it boots, before
/// anything of ours has run there, or its kernel dies of an interrupt between a guest's exit and the STGI after it, or a guest's CPU
/// shuts down out of the blue, or takes an interrupt while it has them off: before it has a stack of the kernel's, or it then waits for
/// itself, for the end of the handler of the same one or, as is likely and not proven, for a lock.
fn was_lost_by_emulator(report: &str) -> bool {
    let (case, console) = report.split_once("--- the host's console").unwrap_or((report, ""));
    let host = ["Kernel panic", "irqentry_enter", "__svm_vcpu_run"].iter().all(|sign| console.contains(sign));
    let guest = [
        "cause: triple fault on vCPU ",
        "RIP: 0010:irq_wait_on_inprogress",
        "RIP: 0010:entry_SYSCALL_64+0x0/",
        SPINNING.trim_end(),
    ]
    .iter()
    .any(|sign| case.contains(sign));
    let boot = case.contains("the lab host did not come up (QEMU: killed after ");
    host || guest || boot
}

/// A failure.
struct Report {
    /// All that helps to understand it, indented.
    text: String,
    /// The little of it that a summary has room for: whoever reads a run often has only its end.
    gist: String,
}

impl Report {
    fn of_boot(error: HostError) -> Report {
        let console = error.console().unwrap_or_default().to_owned();
        let gist = chain(&Error::from(error));
        let mut text = String::new();
        section(&mut text, "what went wrong", &gist);
        section(&mut text, "the host's console", &console);
        Report { text, gist }
    }

    fn of_case(failure: &str, transcript: &str, host: &Host) -> Report {
        let mut text = String::new();
        section(&mut text, "what went wrong", failure);
        section(&mut text, "what the case did", transcript);
        section(&mut text, "the host's dmesg", &last_lines(&host.dmesg(), DMESG));
        section(&mut text, "the host's console", &host.console().tail());
        Report { text, gist: format!("{failure}\n{}", last_lines(transcript, GIST)) }
    }
}

fn section(text: &mut String, title: &str, content: &str) {
    text.push_str(&format!("  --- {title}\n"));
    for line in content.lines() {
        text.push_str(&format!("  | {line}\n"));
    }
}

/// An error and its causes, one a line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}\ncause: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
