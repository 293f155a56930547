//! The API's thread: takes connections, reads requests, hands each to a thread of its own and sends what that answers.
//!
//! No client holds up another, nor the machine: this thread only ever waits for all of them at once, each is bounded in
//! time and in bytes, and when there are too many the one that has been idle for longest makes room.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox::Role;

use super::connection::{Connection, Step};
use super::http::{Request, Response};
use crate::wake::Wake;

/// Clients connected at one time.
pub const MAX_CONNECTIONS: usize = 64;
/// Requests being answered at one time.
pub const MAX_REQUESTS: usize = 16;
/// For this long a connection is not closed to make room for another: its client may be about to speak.
const STAY: Duration = Duration::from_millis(200);
/// For answers that are ready to leave when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// When connections cannot be taken for want of a resource.
const BREATH: Duration = Duration::from_millis(100);

/// Answers requests; called from several threads.
pub type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    wake: Wake,
    stopping: AtomicBool,
}

impl Server {
    /// Serves `listener` with `handler` until it is stopped. Fails when the host is short of something.
    pub fn start(listener: UnixListener, handler: Arc<Handler>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared { wake: Wake::new()?, stopping: AtomicBool::new(false) });
        let (answers, answered) = mpsc::channel();
        let mut service = Service {
            listener,
            handler,
            shared: shared.clone(),
            connections: BTreeMap::new(),
            next: 0,
            answers,
            answered,
            under_way: 0,
            short_of_resources: false,
        };
        let thread = thread::Builder::new().name("api".to_owned()).spawn(move || {
            Role::Api.enter();
            service.run();
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Server {
    /// Sends what has been answered, within bounds, and closes everything.
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.wake.signal();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the API's thread ended badly");
        }
    }
}

struct Service {
    listener: UnixListener,
    handler: Arc<Handler>,
    shared: Arc<Shared>,
    connections: BTreeMap<u64, Connection>,
    /// The number of the next connection.
    next: u64,
    answers: Sender<(u64, Response)>,
    answered: Receiver<(u64, Response)>,
    /// Requests being answered.
    under_way: usize,
    /// No connection can be taken just now.
    short_of_resources: bool,
}

impl Service {
    fn run(&mut self) {
        let mut until = None;
        loop {
            let now = Instant::now();
            if self.shared.stopping.load(Ordering::SeqCst) {
                let until = *until.get_or_insert(now + LAST_WORDS);
                self.connections.retain(|_, connection| connection.is_busy());
                if self.connections.is_empty() || now >= until {
                    return;
                }
            }
            let ready = match self.wait(now, until) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "the API is gone: its sockets cannot be polled");
                    return;
                }
            };
            self.serve(&ready, Instant::now(), until.is_some());
        }
    }

    /// Waits until something is ready: connections by number, the listener as `None`.
    fn wait(&self, now: Instant, until: Option<Instant>) -> io::Result<Vec<(Option<u64>, PollFlags)>> {
        let breath = self.short_of_resources.then_some(now + BREATH);
        let room = self.room_at(now).max(breath);
        let accepting = until.is_none() && room.is_some_and(|room| room <= now);
        let listening = if accepting { PollFlags::IN } else { PollFlags::empty() };
        let mut polled =
            vec![PollFd::new(&self.shared.wake, PollFlags::IN), PollFd::new(&self.listener, listening)];
        polled.extend(self.connections.values().map(|it| PollFd::new(it, it.interest())));
        let deadlines = self.connections.values().filter_map(Connection::deadline);
        let first = deadlines.chain(until).chain(room.filter(|_| !accepting)).min();
        let timeout = first.map(|at| at.saturating_duration_since(now));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let numbers = [None, None].into_iter().chain(self.connections.keys().copied().map(Some));
        let ready = numbers.zip(polled.iter().map(PollFd::revents));
        // The eventfd is looked at every time.
        Ok(ready.skip(1).filter(|(_, events)| !events.is_empty()).collect())
    }

    fn serve(&mut self, ready: &[(Option<u64>, PollFlags)], now: Instant, stopping: bool) {
        self.shared.wake.clear();
        self.short_of_resources = false;
        for (number, events) in ready {
            let Some(number) = number else { continue };
            let Some(connection) = self.connections.get_mut(number) else { continue };
            let step = if events.contains(PollFlags::OUT) {
                connection.write(now)
            } else if events.contains(PollFlags::IN) {
                connection.read(now)
            } else {
                // It hung up, or failed.
                Step::Close
            };
            self.follow(*number, step);
        }
        while let Ok((number, response)) = self.answered.try_recv() {
            self.under_way = self.under_way.saturating_sub(1);
            if let Some(connection) = self.connections.get_mut(&number) {
                let step = connection.answer(&response, now);
                self.follow(number, step);
            }
        }
        self.connections.retain(|_, connection| connection.deadline().is_none_or(|deadline| deadline > now));
        if !stopping && ready.iter().any(|(number, _)| number.is_none()) {
            self.accept(now);
        }
    }

    fn follow(&mut self, number: u64, mut step: Step) {
        // A request that is refused at once may be followed by another that has arrived with it.
        loop {
            step = match step {
                Step::Wait => return,
                Step::Close => return drop(self.connections.remove(&number)),
                Step::Answer(_) if self.shared.stopping.load(Ordering::SeqCst) => {
                    return drop(self.connections.remove(&number));
                }
                Step::Answer(request) => {
                    let Some(refusal) = self.hand_over(number, request) else { return };
                    match self.connections.get_mut(&number) {
                        Some(connection) => connection.answer(&refusal, Instant::now()),
                        None => return,
                    }
                }
            }
        }
    }

    /// Gives a request to a thread of its own, or says why not.
    fn hand_over(&mut self, number: u64, request: Request) -> Option<Response> {
        if self.under_way >= MAX_REQUESTS {
            return Some(Response::error(
                429,
                &[format!("{MAX_REQUESTS} requests are being answered already")],
            ));
        }
        let answers = self.answers.clone();
        let ticket = Ticket { number, answers, shared: self.shared.clone(), response: None };
        let handler = self.handler.clone();
        let spawned = thread::Builder::new().name("api-request".to_owned()).spawn(move || {
            let mut ticket = ticket;
            ticket.response = Some(handler(&request));
        });
        match spawned {
            Ok(_) => self.under_way += 1,
            // The ticket was dropped, which answers; so it counts all the same.
            Err(error) => {
                self.under_way += 1;
                tracing::error!(%error, "no thread for a request");
            }
        }
        None
    }

    /// Takes the connections that wait, as far as there is room. The others wait on.
    fn accept(&mut self, now: Instant) {
        while self.make_room(now) {
            let connection = match self.listener.accept() {
                Ok((stream, _)) => Connection::new(stream, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => Err(error),
            };
            match connection {
                Ok(connection) => {
                    self.connections.insert(self.next, connection);
                    self.next += 1;
                }
                Err(error) => {
                    tracing::warn!(%error, "an API connection cannot be taken");
                    self.short_of_resources = true;
                    return;
                }
            }
        }
    }

    /// When there is, or can be made, room for another connection; `None` if that depends on others.
    fn room_at(&self, now: Instant) -> Option<Instant> {
        if self.connections.len() < MAX_CONNECTIONS {
            return Some(now);
        }
        self.connections.values().filter_map(Connection::expendable_since).min().map(|since| since + STAY)
    }

    /// Makes room for another connection, if need be by closing the one that has been idle, or slow, for longest.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.connections.len() < MAX_CONNECTIONS {
            return true;
        }
        let expendable =
            self.connections.iter().filter_map(|(number, it)| Some((it.expendable_since()?, *number)));
        match expendable.min() {
            Some((since, number)) if since + STAY <= now => self.connections.remove(&number).is_some(),
            _ => false,
        }
    }
}

/// A request under way: answered when it is dropped, whatever happens.
struct Ticket {
    number: u64,
    answers: Sender<(u64, Response)>,
    shared: Arc<Shared>,
    response: Option<Response>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let response = self.response.take().unwrap_or_else(|| {
            Response::error(
                500,
                &["the request could not be worked on: the host is short of something".to_owned()],
            )
        });
        // The server may have stopped.
        let _ = self.answers.send((self.number, response));
        self.shared.wake.signal();
    }
}

#[cfg(test)]
#[path = "server_test.rs"]
mod tests;
