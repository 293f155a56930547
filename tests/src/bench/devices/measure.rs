//! Guests that do what they are asked, and what each of it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::contender::Contender;
use super::load::{FAILED, READY};
use crate::host::{Deadline, Event, Host, HostError, Session};
use crate::wire::ExecRequest;

/// For a boot or a load, in the measuring machine's time.
const DEADLINE: Duration = Duration::from_secs(240);
/// The host's CPU for the guest's, as a mask, and the one for whoever serves it.
const VCPU: &str = "2";
pub(super) const OTHERS: &str = "4";
/// What a QEMU that stays says of its guest's end, and a guest that panics. Nested in another QEMU, guests are given interrupts that
/// they have had, now and then (docs/lab.md).
const STOPPED: [&str; 2] = ["KVM internal error", "Kernel panic"];

/// Of one request, MiB or packet; times in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Of the measuring machine's CPUs, for all of the lab host.
    pub(super) cpu: f64,
    /// By the guest's clock.
    pub(super) time: f64,
    /// Exits of the guest's CPU to the host's kernel.
    pub(super) exits: f64,
}

/// Why there is no sample.
#[derive(Debug)]
pub(super) enum Failure {
    /// A guest did not do it.
    Guest(String),
    /// The host is not there any more.
    Host(HostError),
}

impl Failure {
    /// The same, said of a guest of this one's.
    pub(super) fn of(self, who: Contender) -> Self {
        match self {
            Self::Guest(why) => Self::Guest(format!("{who:?}: {why}")),
            lost => lost,
        }
    }
}

impl From<HostError> for Failure {
    fn from(lost: HostError) -> Self {
        Self::Host(lost)
    }
}

/// A guest that waits to be let go on.
pub(super) struct Guest<'a> {
    host: &'a Host,
    session: Session,
    /// Where the host's kernel counts for it.
    counters: String,
}

impl<'a> Guest<'a> {
    /// Boots it. No other may boot meanwhile.
    pub(super) fn boot(host: &'a Host, argv: Vec<String>) -> Result<Self, Failure> {
        let others = exits(host)?;
        let session = host.exec(ExecRequest { argv, env: Vec::new(), terminal: None })?;
        let mut guest = Self { host, session, counters: String::new() };
        guest.until_ready()?;
        let new = exits(host)?.into_keys().find(|counters| !others.contains_key(counters));
        guest.counters = new.ok_or_else(|| Failure::Guest("KVM does not know it".to_owned()))?;
        guest.place()?;
        Ok(guest)
    }

    /// Gives its vCPU one CPU of the host, and all its other threads the other one: where each is best is not left to the host's scheduler,
    /// which finds it sooner at one time than at another. A guest whose vCPU is not found would run on one CPU.
    fn place(&self) -> Result<(), Failure> {
        let process = self.counters.rsplit('/').next().and_then(|name| name.split('-').next());
        let process = process.ok_or_else(|| Failure::Guest("KVM does not say whose it is".to_owned()))?;
        let script = format!(
            "for thread in /proc/{process}/task/*; do \
                 case $(cat $thread/comm) in vcpu*|CPU*) cpu={VCPU} found=1;; *) cpu={OTHERS};; esac; \
                 taskset -p $cpu ${{thread##*/}} || ! [ -e $thread ] || exit; \
             done; [ $found ]"
        );
        self.host.errand(&["sh", "-c", &script], &[])?;
        Ok(())
    }

    /// Has it do what comes next in its script.
    pub(super) fn load(&mut self) -> Result<Sample, Failure> {
        let before = self.exits()?;
        let cpu = self.host.cpu_time();
        self.session.stdin().write_all(b"go\n");
        let said = self.until_ready()?;
        let cpu = self.host.cpu_time().saturating_sub(cpu);
        let after = self.exits()?;
        let Some((count, nanoseconds)) = took(&said) else {
            return Err(Failure::Guest(format!("a load failed: {said}")));
        };
        Ok(Sample {
            cpu: cpu.as_secs_f64() * 1e6 / count,
            time: nanoseconds / 1000.0 / count,
            exits: (after - before) / count,
        })
    }

    /// Has it power off.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.session.stdin().write_all(b"go\n");
        let deadline = Deadline::after(DEADLINE);
        while let Event::Stdout(_) | Event::Stderr(_) = self.session.next(deadline)? {}
        Ok(())
    }

    /// What it says until it is ready for the next load.
    fn until_ready(&mut self) -> Result<String, Failure> {
        let (mut said, deadline) = (String::new(), Deadline::after(DEADLINE));
        loop {
            match self.session.next(deadline) {
                Ok(Event::Stdout(bytes) | Event::Stderr(bytes)) => {
                    said.push_str(&String::from_utf8_lossy(&bytes))
                }
                Ok(Event::Exit(status)) => {
                    return Err(Failure::Guest(format!("it ended with status {status}: {said}")));
                }
                Err(HostError::Deadline { after }) => {
                    let after = after.as_secs();
                    return Err(Failure::Guest(format!("it was not done after {after} s: {said}")));
                }
                Err(lost) => return Err(lost.into()),
            }
            if STOPPED.iter().any(|end| said.contains(end)) {
                return Err(Failure::Guest(format!("it was stopped: {said}")));
            }
            // A whole line of it.
            if said.split_inclusive('\n').any(|line| line.trim_end() == READY && line.ends_with('\n')) {
                return Ok(said);
            }
        }
    }

    fn exits(&self) -> Result<f64, Failure> {
        Ok(exits(self.host)?.get(&self.counters).copied().unwrap_or_default())
    }
}

/// So many, in so many nanoseconds, as the last line of `requests` says it.
fn took(said: &str) -> Option<(f64, f64)> {
    if said.contains(FAILED) {
        return None;
    }
    let line = said.lines().find_map(|line| line.trim().strip_prefix("requests: "))?;
    let (count, nanoseconds) = line.split_once(" in ")?;
    Some((count.parse().ok()?, nanoseconds.parse().ok()?))
}

/// Of each guest that there is, since its start, by where the host's kernel counts them.
fn exits(host: &Host) -> Result<BTreeMap<String, f64>, HostError> {
    let script = "for guest in /sys/kernel/debug/kvm/[0-9]*; do echo $guest $(cat $guest/exits); done";
    let files = host.errand(&["sh", "-c", script], &[])?;
    let guest = |line: &str| {
        let (counters, exits) = line.split_once(' ')?;
        Some((counters.to_owned(), exits.trim().parse().ok()?))
    };
    Ok(String::from_utf8_lossy(&files).lines().filter_map(guest).collect())
}

#[cfg(test)]
#[path = "measure_test.rs"]
mod tests;
