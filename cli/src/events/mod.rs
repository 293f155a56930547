//! `--events`: what happens to a machine as JSON lines, for whoever supervises it. The lines are described in
//! docs/operating.md; fields and events may be added.
//!
//! Lines are written by a thread of their own, so that a reader who is slow, or gone, holds up neither guest nor start.

mod lines;
mod target;

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memory::pin::Progress;
use sandbox::Role;
use serde_json::{Value, json};
use vmm::{Event, MachineSpec, Outcome, Problems};

pub(crate) use target::{Events, EventsError};

/// Lines that wait for a reader; those beyond are dropped and counted.
const WAITING: usize = 1024;
/// How long the end waits for a reader.
const LAST: Duration = Duration::from_secs(2);
/// How often pinning is told of while it does the same thing.
const TICK: Duration = Duration::from_millis(250);

/// Where events go.
pub(crate) struct EventLog {
    /// `None` once there is no more to say.
    lines: Option<SyncSender<String>>,
    /// Hangs up when all is written.
    written: Mutex<Receiver<()>>,
    lost: AtomicU64,
    pinning: Mutex<Option<(Progress, Instant)>>,
}

impl EventLog {
    /// Writes to where `events` says from now on.
    pub(crate) fn open(events: &Events) -> Result<Self, EventsError> {
        Self::new(target::open(events)?).map_err(EventsError::Thread)
    }

    fn new(mut file: File) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel::<String>(WAITING);
        let (writing, written) = channel();
        std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            Role::Events.enter();
            let _writing = writing;
            for line in waiting {
                if let Err(error) = file.write_all(line.as_bytes()) {
                    tracing::warn!(%error, "events cannot be written, no more are");
                    return;
                }
            }
        })?;
        Ok(Self {
            lines: Some(lines),
            written: Mutex::new(written),
            lost: AtomicU64::new(0),
            pinning: Mutex::default(),
        })
    }

    /// Something happened to the machine.
    pub(crate) fn note(&self, spec: &MachineSpec, event: &Event) {
        if let Event::Pinning(progress) = event
            && !self.is_news(progress)
        {
            return;
        }
        lines::of(spec, event).into_iter().for_each(|line| self.write(line));
    }

    /// The process ends so.
    pub(crate) fn ended(&self, result: &Result<Outcome, Problems>, code: u8) {
        self.write(lines::ended(result, code));
    }

    /// Another step, other figures for a while, or more refusals.
    fn is_news(&self, progress: &Progress) -> bool {
        let Ok(mut told) = self.pinning.lock() else { return false };
        let news = told.is_none_or(|(last, when)| last.step != progress.step || when.elapsed() >= TICK);
        if news {
            *told = Some((*progress, Instant::now()));
        }
        news
    }

    fn write(&self, mut line: Value) {
        let Some(lines) = &self.lines else { return };
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if let Some(fields) = line.as_object_mut() {
            fields.insert("time".to_owned(), json!(time.as_secs_f64()));
            if lost > 0 {
                fields.insert("lost".to_owned(), json!(lost));
            }
        }
        if let Err(TrySendError::Full(_)) = lines.try_send(format!("{line}\n")) {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

impl Drop for EventLog {
    /// Waits until all is written, but not for ever.
    fn drop(&mut self) {
        self.lines = None;
        let written = self.written.get_mut().map(|written| written.recv_timeout(LAST));
        if let Ok(Err(RecvTimeoutError::Timeout)) = written {
            tracing::warn!("nobody reads the last events");
        }
    }
}

#[cfg(test)]
#[path = "events_test.rs"]
mod tests;
