//! One guest with one device, and all loads on it.

use std::time::Duration;

use super::load::{Device, FAILED, READY};
use crate::host::{Deadline, Event, Host, HostError, Session};
use crate::wire::ExecRequest;

/// For one guest, in the measuring machine's time.
const DEADLINE: Duration = Duration::from_secs(240);
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

/// A sample for each of the device's loads, in their order; or why there are none.
pub(super) fn guest(
    host: &Host,
    device: Device,
    argv: Vec<String>,
) -> Result<Result<Vec<Sample>, String>, HostError> {
    let session = host.exec(ExecRequest { argv, env: Vec::new(), terminal: None })?;
    let mut guest = Guest { session, said: String::new(), deadline: Deadline::after(DEADLINE) };
    let mut samples = Vec::new();
    if let Err(why) = guest.until_ready()? {
        return Ok(Err(why));
    }
    for _ in device.loads() {
        let before = exits(host)?;
        let cpu = host.cpu_time();
        let said = match guest.until_ready()? {
            Ok(said) => said,
            Err(why) => return Ok(Err(why)),
        };
        let cpu = host.cpu_time().saturating_sub(cpu);
        let after = exits(host)?;
        let Some((count, nanoseconds)) = took(&said) else {
            return Ok(Err(format!("a load failed: {said}")));
        };
        samples.push(Sample {
            cpu: cpu.as_secs_f64() * 1e6 / count,
            time: nanoseconds / 1000.0 / count,
            exits: (after - before) / count,
        });
    }
    guest.session.stdin().write_all(b"go\n");
    while let Event::Stdout(_) | Event::Stderr(_) = guest.session.next(guest.deadline)? {}
    Ok(Ok(samples))
}

struct Guest {
    session: Session,
    said: String,
    deadline: Deadline,
}

impl Guest {
    /// Lets it go on, unless it has not begun, and gives what it says until it is ready for the next load; or why it is not.
    fn until_ready(&mut self) -> Result<Result<String, String>, HostError> {
        if self.said.contains(READY) {
            self.said.clear();
            self.session.stdin().write_all(b"go\n");
        }
        loop {
            match self.session.next(self.deadline) {
                Ok(Event::Stdout(bytes) | Event::Stderr(bytes)) => {
                    self.said.push_str(&String::from_utf8_lossy(&bytes))
                }
                Ok(Event::Exit(status)) => {
                    return Ok(Err(format!("it ended with status {status}: {}", self.said)));
                }
                Err(HostError::Deadline { after }) => {
                    return Ok(Err(format!("it was not done after {} s: {}", after.as_secs(), self.said)));
                }
                Err(lost) => return Err(lost),
            }
            if STOPPED.iter().any(|end| self.said.contains(end)) {
                return Ok(Err(format!("it was stopped: {}", self.said)));
            }
            // A whole line of it.
            if self.said.split_inclusive('\n').any(|line| line.trim_end() == READY && line.ends_with('\n')) {
                return Ok(Ok(self.said.clone()));
            }
        }
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

/// Of the one guest that there is, since its start.
fn exits(host: &Host) -> Result<f64, HostError> {
    let files = host.errand(&["sh", "-c", "cat /sys/kernel/debug/kvm/[0-9]*/exits"], &[])?;
    Ok(String::from_utf8_lossy(&files).lines().filter_map(|line| line.trim().parse::<f64>().ok()).sum())
}

#[cfg(test)]
#[path = "measure_test.rs"]
mod tests;
