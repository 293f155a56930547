//! One command in a lab host, seen from the lab.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::link::{Link, Route};
use super::{Console, HostError};
use crate::wire::{CHUNK, ExecRequest, Frame, Size, WINDOW};

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// It wrote to standard output, or to its terminal.
    Stdout(Vec<u8>),
    /// It wrote to standard error.
    Stderr(Vec<u8>),
    /// It ended with this status; nothing follows.
    Exit(i32),
}

/// A point in time until which something may take; or no such point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    until: Option<(Instant, Duration)>,
}

impl Deadline {
    /// From now on, so long.
    pub(crate) fn after(time: Duration) -> Deadline {
        Deadline { until: Some((Instant::now() + time, time)) }
    }

    /// No deadline.
    pub(crate) fn never() -> Deadline {
        Deadline { until: None }
    }

    /// This, or the end of `time` from now on if that is sooner.
    pub(crate) fn or_after(self, time: Duration) -> Deadline {
        let other = Deadline::after(time);
        match (self.until, other.until) {
            (Some((this, _)), Some((other, _))) if this <= other => self,
            _ => other,
        }
    }

    /// Whether it has passed.
    pub(crate) fn is_over(self) -> bool {
        self.until.is_some_and(|(until, _)| until <= Instant::now())
    }
}

/// A command; dropping it kills the command, if it has not ended.
pub(crate) struct Session {
    id: u32,
    link: Arc<Link>,
    console: Console,
    events: Receiver<Event>,
    window: Arc<Window>,
}

/// A command's standard input.
#[derive(Clone)]
pub(crate) struct Stdin {
    id: u32,
    link: Arc<Link>,
    window: Arc<Window>,
}

impl Session {
    pub(super) fn start(
        link: &Arc<Link>,
        console: &Console,
        request: ExecRequest,
    ) -> Result<Session, HostError> {
        let (sender, events) = mpsc::channel();
        let window = Arc::new(Window::default());
        let id = link.enter(Route { events: sender, window: Arc::clone(&window) });
        let session = Session { id, link: Arc::clone(link), console: console.clone(), events, window };
        session.link.send(id, &Frame::Exec(request));
        Ok(session)
    }

    /// Its standard input, which another thread may write.
    pub(crate) fn stdin(&self) -> Stdin {
        Stdin { id: self.id, link: Arc::clone(&self.link), window: Arc::clone(&self.window) }
    }

    /// Waits for what it does next.
    pub(crate) fn next(&self, deadline: Deadline) -> Result<Event, HostError> {
        let gone = || HostError::Gone { console: self.console.last_words() };
        match deadline.until {
            None => self.events.recv().map_err(|_| gone()),
            Some((until, after)) => {
                let left = until.saturating_duration_since(Instant::now());
                self.events.recv_timeout(left).map_err(|e| match e {
                    RecvTimeoutError::Timeout => HostError::Deadline { after },
                    RecvTimeoutError::Disconnected => gone(),
                })
            }
        }
    }

    /// Kills it and what it started; its end then comes as an event.
    pub(crate) fn kill(&self) {
        if !self.window.is_closed() {
            self.link.send(self.id, &Frame::Kill);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
        self.link.leave(self.id);
    }
}

impl Stdin {
    /// Writes all of `bytes`, waiting while the command does not read. When the command ends first, the
    /// rest is dropped.
    pub(crate) fn write_all(&self, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK) {
            if !self.window.take(chunk.len()) {
                return;
            }
            self.link.send(self.id, &Frame::Stdin(chunk.to_vec()));
        }
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        self.link.send(self.id, &Frame::StdinEnd);
    }

    /// Writes all of `bytes` and ends it.
    pub(crate) fn write_all_and_end(&self, bytes: &[u8]) {
        self.write_all(bytes);
        self.end();
    }

    /// Tells the size of the terminal.
    pub(crate) fn resize(&self, size: Size) {
        self.link.send(self.id, &Frame::Resize(size));
    }
}

/// How many more bytes of standard input may be sent.
pub(super) struct Window {
    /// `None` once the command has ended.
    room: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Default for Window {
    fn default() -> Window {
        Window { room: Mutex::new(Some(WINDOW)), changed: Condvar::new() }
    }
}

impl Window {
    /// Waits for room for `bytes`; `false` when the command has ended.
    fn take(&self, bytes: usize) -> bool {
        let room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = self
            .changed
            .wait_while(room, |room| room.is_some_and(|room| room < bytes))
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *room {
            Some(room) => {
                *room -= bytes;
                true
            }
            None => false,
        }
    }

    pub(super) fn open(&self, bytes: usize) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        *room = room.map(|room| room + bytes);
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.changed.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}
