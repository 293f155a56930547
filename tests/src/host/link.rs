//! The lab's end of a host's port: one thread receives and hands each frame to its session.

use std::collections::HashMap;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::HostError;
use super::session::{Event, Window};
use crate::wire::{self, Frame, Ready};

/// Where the frames of one session go.
pub(super) struct Route {
    pub(super) events: Sender<Event>,
    pub(super) window: Arc<Window>,
}

/// A connection to an agent.
pub(super) struct Link {
    socket: Mutex<UnixStream>,
    /// `None` once the host is gone.
    routes: Mutex<Option<HashMap<u32, Route>>>,
    next: AtomicU32,
}

impl Link {
    /// Starts receiving. The agent's first word comes out of the receiver, or its end does.
    pub(super) fn open(socket: UnixStream) -> Result<(Arc<Link>, Receiver<Ready>), HostError> {
        let incoming = socket
            .try_clone()
            .map_err(|source| HostError::Local { action: "share the agent's port", source })?;
        let mut incoming = BufReader::new(incoming);
        let (first_word, ready) = mpsc::channel();
        let routes = Mutex::new(Some(HashMap::new()));
        let link = Arc::new(Link { socket: Mutex::new(socket), routes, next: AtomicU32::new(1) });
        let weak = Arc::downgrade(&link);
        thread::spawn(move || {
            while let Ok(Some((session, frame))) = wire::receive(&mut incoming) {
                let Some(link) = weak.upgrade() else { return };
                match frame {
                    Frame::Ready(ready) => drop(first_word.send(ready)),
                    frame => link.deliver(session, frame),
                }
            }
            if let Some(link) = weak.upgrade() {
                link.hang_up();
            }
        });
        Ok((link, ready))
    }

    /// Sends a frame; a host that is gone shows in the session's events.
    pub(super) fn send(&self, session: u32, frame: &Frame) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if wire::send(&mut *socket, session, frame).is_err() {
            drop(socket);
            self.hang_up();
        }
    }

    /// Opens a session and gives its number. On a link that hung up, its events end at once.
    pub(super) fn enter(&self, route: Route) -> u32 {
        let session = self.next.fetch_add(1, Ordering::Relaxed);
        match &mut *self.routes() {
            Some(routes) => drop(routes.insert(session, route)),
            None => route.window.close(),
        }
        session
    }

    /// Forgets a session.
    pub(super) fn leave(&self, session: u32) {
        if let Some(routes) = &mut *self.routes() {
            routes.remove(&session);
        }
    }

    fn deliver(&self, session: u32, frame: Frame) {
        let mut routes = self.routes();
        let Some(route) = routes.as_mut().and_then(|routes| routes.get(&session)) else { return };
        let event = match frame {
            Frame::Stdout(bytes) => Event::Stdout(bytes),
            Frame::Stderr(bytes) => Event::Stderr(bytes),
            Frame::Exit(status) => {
                route.window.close();
                Event::Exit(status)
            }
            Frame::Taken(bytes) => return route.window.open(bytes as usize),
            _ => return,
        };
        // Who no longer listens has no use for it.
        let _ = route.events.send(event);
    }

    fn hang_up(&self) {
        for route in self.routes().take().into_iter().flat_map(HashMap::into_values) {
            route.window.close();
        }
    }

    fn routes(&self) -> MutexGuard<'_, Option<HashMap<u32, Route>>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
