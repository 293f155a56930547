//! One client's connection: what it has sent, what it is sent, and how long either may take. Never blocks.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::http::{self, BadRequest, MAX_BODY, MAX_HEAD, Progress, Request, Response};

/// From a request's first byte to its last.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// For a client to take a response.
pub(super) const RESPONSE_DEADLINE: Duration = Duration::from_secs(30);
/// Between requests.
pub(super) const IDLE_DEADLINE: Duration = Duration::from_secs(300);

/// A connection.
pub(super) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    keep_alive: bool,
    told_to_continue: bool,
}

/// What a connection is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has arrived of the next request.
    Idle,
    /// A request is arriving.
    Receiving,
    /// A request is being answered.
    Answering,
    /// A response is leaving.
    Sending,
}

/// What comes of reading or writing.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing for now.
    Wait,
    /// This is to be answered.
    Answer(Request),
    /// It is over.
    Close,
}

impl Connection {
    /// Serves `stream`. Fails when it cannot be made not to block.
    pub(super) fn new(stream: UnixStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            phase: Phase::Idle,
            since: now,
            keep_alive: true,
            told_to_continue: false,
        })
    }

    /// What to poll it for. While a request is answered nothing is read: what a client can pile up is bounded.
    pub(super) fn interest(&self) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, matches!(self.phase, Phase::Idle | Phase::Receiving));
        interest.set(PollFlags::OUT, !self.output.is_empty());
        interest
    }

    /// When it is to be closed for taking too long, if at all.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let allowed = match self.phase {
            Phase::Idle => IDLE_DEADLINE,
            Phase::Receiving => REQUEST_DEADLINE,
            Phase::Answering => return None,
            Phase::Sending => RESPONSE_DEADLINE,
        };
        Some(self.since + allowed)
    }

    /// Since when it can be closed to make room for somebody else; `None` while it is being served.
    pub(super) fn expendable_since(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Idle | Phase::Receiving).then_some(self.since)
    }

    /// Whether something is still to be sent or answered.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Answering | Phase::Sending)
    }

    /// Reads what there is.
    pub(super) fn read(&mut self, now: Instant) -> Step {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Step::Close,
            Ok(length) => {
                if self.phase == Phase::Idle {
                    self.enter(Phase::Receiving, now);
                }
                self.input.extend(buffer.get(..length).unwrap_or_default());
                self.look(now)
            }
            Err(error) if is_passing(&error) => Step::Wait,
            Err(_) => Step::Close,
        }
    }

    /// Sends what is to be sent, as far as it goes.
    pub(super) fn write(&mut self, now: Instant) -> Step {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Step::Close,
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if is_passing(&error) => return Step::Wait,
                Err(_) => return Step::Close,
            }
        }
        if self.phase != Phase::Sending {
            return Step::Wait;
        }
        if !self.keep_alive {
            return Step::Close;
        }
        self.enter(if self.input.is_empty() { Phase::Idle } else { Phase::Receiving }, now);
        self.look(now)
    }

    /// The answer to its request has come.
    pub(super) fn answer(&mut self, response: &Response, now: Instant) -> Step {
        self.output.extend(response.to_bytes(self.keep_alive));
        self.enter(Phase::Sending, now);
        self.write(now)
    }

    /// Looks for a whole request in what has arrived.
    fn look(&mut self, now: Instant) -> Step {
        match http::parse(&self.input) {
            Ok(Progress::Complete(request, size)) => {
                self.input.drain(..size);
                self.keep_alive = request.keep_alive;
                self.told_to_continue = false;
                self.enter(Phase::Answering, now);
                Step::Answer(request)
            }
            Ok(Progress::Partial { wants_continue }) => {
                if wants_continue && !std::mem::replace(&mut self.told_to_continue, true) {
                    self.output.extend(http::CONTINUE);
                }
                // A head and a body that are within bounds fit; the parser has refused all else.
                debug_assert!(self.input.len() <= MAX_HEAD + MAX_BODY);
                Step::Wait
            }
            Err(bad) => self.refuse(bad, now),
        }
    }

    fn refuse(&mut self, bad: BadRequest, now: Instant) -> Step {
        self.keep_alive = false;
        self.input.clear();
        self.answer(&Response::error(bad.status(), &[bad.to_string()]), now)
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
