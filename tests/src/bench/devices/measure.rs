//! One guest with one device, and all loads on it.

use std::time::Duration;

use super::load::{Device, FAILED, READY};
use crate::host::{Deadline, Event, Host, HostError, Session};
use crate::wire::ExecRequest;

/// For one guest, in the measuring machine's time.
const DEADLINE: Duration = Duration::from_secs(1200);

/// Of one request, MiB or packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// By the guest's clock.
    pub(super) microseconds: f64,
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
        let said = match guest.until_ready()? {
            Ok(said) => said,
            Err(why) => return Ok(Err(why)),
        };
        let after = exits(host)?;
        let Some((count, nanoseconds)) = took(&said) else {
            return Ok(Err(format!("a load failed: {said}")));
        };
        samples.push(Sample { microseconds: nanoseconds / 1000.0 / count, exits: (after - before) / count });
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
            match self.session.next(self.deadline)? {
                Event::Stdout(bytes) | Event::Stderr(bytes) => {
                    self.said.push_str(&String::from_utf8_lossy(&bytes))
                }
                Event::Exit(status) => {
                    return Ok(Err(format!("it ended with status {status}: {}", self.said)));
                }
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
