//! The monitor's end of a pin helper: starts it, asks it, and kills it when it does not answer in time.
//!
//! Nothing here waits for it without a limit. A helper that even SIGKILL does not end (the kernel loops where it does
//! not look for signals) is left to a thread that waits for it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::HelperCommand;
use super::protocol::{REPLY_SIZE, Reply, Request};
use crate::bytes::Bytes;
use crate::pin::kernel::{PinFault, Trial};
use crate::pin::mapper::Chunk;
use crate::pin::trial::{Loss, Pinner, TrialUnavailable};
use crate::residency::Vmstat;
use crate::text;

/// How long a helper may take to start: without using a CPU, as one does that is stopped or stuck, and at the most.
const START: (Duration, Duration) = (Duration::from_millis(2500), Duration::from_secs(10));
/// What of its patience a call gets that is made in a hurry.
const HURRY: f64 = 0.4;
/// How many times as long a call may take that seems to move pages: others on the host may be who moves them.
const MOVING: u32 = 6;
/// How long it may take to die: when all is done, and when another would go on with the same pages. The kernel finishes
/// a batch of migrations first, and until then the other would wait for these pages.
const DEATH: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// How often a wait looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(50);

/// What a helper is doing while it is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Starting,
    Pinning,
}

/// A running helper. Dropping it ends it, and with it all its pins.
pub(in crate::pin) struct Helper<'a> {
    child: Option<Child>,
    pid: u32,
    socket: OwnedFd,
    memfd: File,
    stall: Duration,
    used: u32,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Helper<'a> {
    /// Starts one that holds up to `slots` pins of `memfd`. `stall`: how long a pin may take without
    /// allocating pages.
    pub(in crate::pin) fn spawn(
        command: &HelperCommand,
        pinner: Pinner,
        memfd: &File,
        slots: u32,
        stall: Duration,
    ) -> Result<Self, TrialUnavailable> {
        let failed =
            |how: std::io::Error| TrialUnavailable::NoHelper { how: format!("cannot be started: {how}") };
        let (socket, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|errno| failed(errno.into()))?;
        let memfd = memfd.try_clone().map_err(failed)?;
        let child = Command::new(&command.program)
            .args(&command.arguments)
            .args([pinner.argument(), &slots.to_string()])
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(memfd.try_clone().map_err(failed)?))
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let pid = child.id();
        let mut helper = Self { child: Some(child), pid, socket, memfd, stall, used: 0, stop: None };
        match helper.hear(Task::Starting, START.0) {
            Ok(Reply::Ready) => Ok(helper),
            Ok(Reply::Unavailable(lack)) => Err(lack.reason()),
            Ok(reply) => Err(TrialUnavailable::NoHelper { how: format!("began with {reply:?}") }),
            Err(PinFault::Lost { loss, how }) => Err(TrialUnavailable::HelperLost { loss, how }),
            Err(PinFault::Refused(error)) => Err(failed(error)),
        }
    }

    /// Calls are abandoned when `stop` is set.
    pub(in crate::pin) fn stopped_by(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    fn ask(&mut self, request: &Request, patience: Duration) -> Result<Reply, PinFault> {
        match rustix::net::send(&self.socket, &request.encode(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => self.hear(Task::Pinning, patience),
            Err(_) => Err(self.died()),
        }
    }

    /// Waits for a reply; whatever else happens is the end of the helper.
    fn hear(&mut self, task: Task, patience: Duration) -> Result<Reply, PinFault> {
        let asked = Instant::now();
        let (mut last, mut quiet) = (asked, Duration::ZERO);
        let mut seen = self.signs(task);
        let longest = if task == Task::Starting { START.1 } else { patience * MOVING };
        loop {
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
            match poll(&mut ready, Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => (),
                Ok(_) => return self.receive(),
                Err(_) => return Err(self.died()),
            }
            if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                self.end();
                return Err(PinFault::Lost { loss: Loss::Died, how: "was ended".to_owned() });
            }
            // While this process did not get to run, on a host that is overloaded or was frozen, neither did the helper.
            let now = Instant::now();
            quiet += (now - last).min(2 * TICK);
            last = now;
            let before = std::mem::replace(&mut seen, self.signs(task));
            if seen.0 > before.0 || seen.1 != before.1 && now - asked < longest {
                quiet = Duration::ZERO;
            }
            if quiet < patience {
                continue;
            }
            let waited = asked.elapsed();
            return Err(self.stalled(waited));
        }
    }

    /// What grows as it gets on, and what changes then, though not for this reason alone.
    fn signs(&self, task: Task) -> (u64, u64) {
        match task {
            Task::Starting => (0, cpu_time(self.pid)),
            Task::Pinning => (self.allocated(), isolated()),
        }
    }

    /// Grows while a pin gets on that allocates pages.
    fn allocated(&self) -> u64 {
        self.memfd.metadata().map_or(0, |metadata| metadata.blocks())
    }

    fn receive(&mut self) -> Result<Reply, PinFault> {
        let mut bytes = [0; REPLY_SIZE + 1];
        let length = match rustix::net::recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((_, length)) => length,
            Err(_) => 0,
        };
        bytes.get(..length).and_then(Reply::decode).ok_or_else(|| self.died())
    }

    fn died(&mut self) -> PinFault {
        let fault = fault(self.pid, self.end());
        tracing::warn!(?fault, "the pin helper died");
        fault
    }

    fn stalled(&mut self, waited: Duration) -> PinFault {
        let status = self.end();
        tracing::warn!(pid = self.pid, ?waited, ?status, "the pin helper did not answer and was killed");
        // One that is killed by a filter does not answer either, while its core is dumped.
        if status.and_then(|status| status.signal()) == Some(libc::SIGSYS) {
            return fault(self.pid, status);
        }
        let end = if status.is_some() { "killed" } else { "killed, but not dead yet" };
        let how = format!("pid {} did not answer for {:.1} s ({end})", self.pid, waited.as_secs_f64());
        PinFault::Lost { loss: Loss::Stalled, how }
    }

    /// Kills it; how it ended, if it has by then.
    fn end(&mut self) -> Option<ExitStatus> {
        self.used = 0;
        let child = self.child.take()?;
        // One that is about to die by itself says more about why.
        thread::sleep(Duration::from_millis(2));
        kill(child, DEATH.1)
    }
}

/// Changes, host-wide, while a pin gets on that moves pages: those that are to be moved are taken off their lists together
/// and leave this count one by one (mm/migrate.c, migrate_folio_done). `pgmigrate_success` grows only at the end.
fn isolated() -> u64 {
    Vmstat::read().map_or(0, |counters| counters.nr_isolated)
}

/// What process `pid` has used of CPUs, in nanoseconds (Documentation/scheduler/sched-stats.rst); 0 if that is not told.
fn cpu_time(pid: u32) -> u64 {
    let text = text::read(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split_whitespace().next().and_then(|time| time.parse().ok()).unwrap_or(0)
}

impl Trial for Helper<'_> {
    fn pin(&mut self, chunk: &Chunk, hurry: bool) -> Result<(), PinFault> {
        let size = chunk.guest.size;
        let patience = if hurry { self.stall.mul_f64(HURRY) } else { self.stall };
        let request = Request::Pin { slot: self.used, offset: chunk.offset, size };
        match self.ask(&request, patience)? {
            Reply::Done => {
                self.used += 1;
                Ok(())
            }
            Reply::Refused(errno) => Err(PinFault::Refused(std::io::Error::from_raw_os_error(errno))),
            Reply::Ready | Reply::Unavailable(_) => Err(self.died()),
        }
    }

    fn release(&mut self) {
        if self.used == 0 || self.child.is_none() {
            return;
        }
        let held = Bytes(u64::from(self.used));
        self.used = 0;
        if let Err(fault) = self.ask(&Request::Release, self.stall) {
            tracing::debug!(?fault, ?held, "releasing trial pins; they are gone with their holder");
        }
    }

    fn check(&mut self) -> Result<(), PinFault> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            _ => Err(self.died()),
        }
    }
}

impl Drop for Helper<'_> {
    /// Waits for its end: until then it shares the memory, which would count as used if it were freed here.
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            kill(child, DEATH.0);
        }
    }
}

/// Kills `child` and waits for its end, but not for long: how it ended, if it has by then.
fn kill(mut child: Child, patience: Duration) -> Option<ExitStatus> {
    if let Err(error) = child.kill() {
        tracing::debug!(%error, "killing the pin helper");
    }
    let until = Instant::now() + patience;
    let mut tick = Duration::from_micros(100);
    while Instant::now() < until {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(tick);
        tick = (tick * 2).min(Duration::from_millis(5));
    }
    tracing::warn!(
        pid = child.id(),
        "the killed pin helper does not end yet: the kernel is still busy with its pages"
    );
    reap(child);
    None
}

/// Waits for `child` elsewhere, so that it does not stay behind as a zombie.
fn reap(mut child: Child) {
    let wait = move || {
        if let Err(error) = child.wait() {
            tracing::debug!(%error, "waiting for the pin helper");
        }
    };
    if let Err(error) = thread::Builder::new().name("pin-reaper".to_owned()).spawn(wait) {
        tracing::debug!(%error, "no thread to wait for the pin helper; init will");
    }
}

/// The loss of helper `pid`, which ended like this.
fn fault(pid: u32, status: Option<ExitStatus>) -> PinFault {
    let ended = status.map(|status| (status.signal(), status.code()));
    let (loss, how) = match ended {
        Some((Some(libc::SIGSYS), _)) => (Loss::Forbidden, "was killed by a seccomp filter".to_owned()),
        Some((Some(signal), _)) => (Loss::Died, format!("was killed by signal {signal}")),
        Some((None, Some(code))) => (Loss::Died, format!("ended with exit code {code}")),
        Some((None, None)) | None => (Loss::Died, "is gone".to_owned()),
    };
    PinFault::Lost { loss, how: format!("pid {pid} {how}") }
}

#[cfg(test)]
#[path = "process_test.rs"]
mod tests;
