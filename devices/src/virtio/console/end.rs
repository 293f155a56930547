//! The host's ends of ports. They last as long as the machine, over resets of the device; nothing here waits, but a file on a slow
//! disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::tcgetwinsize;

/// What is kept of what a console printed last while nobody reads.
pub(super) const KEPT: usize = 64 << 10;
/// Events at a time.
const PORTION: usize = 64;
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Where a port leads to.
#[derive(Debug)]
pub enum Backend {
    /// Takes what the guest sends.
    File(File),
    /// A pseudo-terminal, of which this is the master. Somebody has to hold the other end open.
    Terminal(File),
    /// Takes one client at a time; others wait.
    Socket(UnixListener),
}

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes(usize),
    Nothing,
}

/// The host's end of one port.
pub(super) struct End {
    backend: Backend,
    client: Option<UnixStream>,
    /// Whether what cannot be written at once is kept, as far as there is room, or is the guest's to keep.
    is_console: bool,
    kept: VecDeque<u8>,
    /// There may be something to read; to write to; a client who waits; until it is found that there is not.
    readable: bool,
    writable: bool,
    acceptable: bool,
    /// The client sends nothing more; and reads nothing more.
    at_end: bool,
    hung_up: bool,
    /// Whether it was said that it cannot be written to.
    told: bool,
}

impl End {
    /// Whether somebody is there.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.backend, Backend::Socket(_)) || self.client.is_some()
    }

    /// Columns and rows, of a terminal that has a size.
    pub(super) fn size(&self) -> Option<(u16, u16)> {
        let Backend::Terminal(master) = &self.backend else { return None };
        let size = tcgetwinsize(master).ok()?;
        Some((size.ws_col, size.ws_row)).filter(|(columns, rows)| *columns > 0 && *rows > 0)
    }

    /// Reads what there is.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Got {
        if !self.readable {
            return Got::Nothing;
        }
        let read = match (&mut self.client, &mut self.backend) {
            (Some(client), _) => client.read(buffer),
            (None, Backend::Terminal(master)) => master.read(buffer),
            (None, _) => return Got::Nothing,
        };
        match read {
            Ok(0) => self.end_of_input(),
            Ok(length) => return Got::Bytes(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(_) => self.leave(),
        }
        Got::Nothing
    }

    /// Takes what the guest sends; gives how much of it the guest is rid of, of which some may be lost.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        if !self.is_console {
            return if self.is_open() { self.write(bytes) } else { bytes.len() };
        }
        self.flush();
        let written = if self.kept.is_empty() { self.write(bytes) } else { 0 };
        if self.is_open() {
            self.kept.extend(bytes.iter().skip(written));
            // What was printed last is what a reader wants who comes late.
            self.kept.drain(..self.kept.len().saturating_sub(KEPT));
        }
        bytes.len()
    }

    /// Writes what was kept, as far as that goes.
    pub(super) fn flush(&mut self) {
        while self.writable && !self.kept.is_empty() {
            let mut front = [0; 4096];
            let length = self.kept.len().min(front.len());
            front.iter_mut().zip(&self.kept).for_each(|(to, from)| *to = *from);
            let written = self.write(front.get(..length).unwrap_or_default());
            // Whoever has gone has left nothing to be kept.
            self.kept.drain(..written.min(self.kept.len()));
        }
    }

    /// Writes what goes at once. To nobody, all of it.
    fn write(&mut self, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        while self.writable && !bytes.is_empty() {
            let written = match (&mut self.client, &mut self.backend) {
                (Some(client), _) => client.write(bytes),
                (None, Backend::File(file) | Backend::Terminal(file)) => file.write(bytes),
                (None, Backend::Socket(_)) => return all,
            };
            match written {
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) => {
                    self.fail(&error);
                    return all;
                }
            }
        }
        all - bytes.len()
    }

    /// A client that cannot be written to has gone; a file that is full may have room again.
    fn fail(&mut self, error: &io::Error) {
        if self.client.is_some() {
            return self.leave();
        }
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(%error, "what the guest writes to a port of its virtio console is lost");
        }
    }

    /// A client that sends nothing more may still read what it is answered.
    fn end_of_input(&mut self) {
        (self.readable, self.at_end) = (false, true);
        self.forget_gone(true);
    }

    /// Sends the client away, if there is one.
    pub(super) fn close(&mut self) {
        if self.client.is_some() {
            self.leave();
        }
    }

    /// The client has gone.
    fn leave(&mut self) {
        // Which takes it out of the epoll.
        self.client = None;
        self.kept.clear();
        (self.readable, self.at_end, self.hung_up) = (false, false, false);
    }

    /// Lets a client go that has hung up, once all is read that it sent, or if nobody in the guest reads it.
    pub(super) fn forget_gone(&mut self, is_read: bool) {
        if self.hung_up && (self.at_end || !is_read) {
            self.leave();
        }
    }
}

impl AsFd for Backend {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::File(file) | Self::Terminal(file) => file.as_fd(),
            Self::Socket(listener) => listener.as_fd(),
        }
    }
}

/// The host's ends of all ports.
pub(super) struct Ends {
    epoll: OwnedFd,
    ends: Vec<End>,
}

impl Ends {
    /// Watches `backends`, each with whether it is a console.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub(super) fn new(backends: Vec<(Backend, bool)>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut ends = Vec::new();
        for (number, (backend, is_console)) in (0_u64..).zip(backends) {
            let flags = match &backend {
                // It cannot be watched, and is always ready.
                Backend::File(_) => None,
                Backend::Terminal(_) => Some(EventFlags::IN | EventFlags::OUT | EventFlags::ET),
                Backend::Socket(_) => Some(EventFlags::IN | EventFlags::ET),
            };
            if let Some(flags) = flags {
                fcntl_setfl(&backend, fcntl_getfl(&backend)? | OFlags::NONBLOCK)?;
                epoll::add(&epoll, &backend, EventData::new_u64(number * 2), flags)?;
            }
            ends.push(End {
                writable: matches!(backend, Backend::File(_)),
                backend,
                client: None,
                is_console,
                kept: VecDeque::new(),
                readable: false,
                acceptable: false,
                at_end: false,
                hung_up: false,
                told: false,
            });
        }
        Ok(Self { epoll, ends })
    }

    /// Readable when [`Ends::poll`] is to be called.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// The end of a port.
    pub(super) fn get_mut(&mut self, port: usize) -> Option<&mut End> {
        self.ends.get_mut(port)
    }

    /// Hears what has become possible.
    pub(super) fn poll(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(PORTION);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&NOW)) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            polled => polled?,
        };
        for Event { flags, data } in events {
            let (port, is_client) = (usize::try_from(data.u64() / 2), data.u64() % 2 == 1);
            let Some(end) = port.ok().and_then(|port| self.ends.get_mut(port)) else { continue };
            if !is_client && matches!(end.backend, Backend::Socket(_)) {
                end.acceptable = true;
                continue;
            }
            end.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP);
            end.writable |= flags.contains(EventFlags::OUT);
            end.hung_up |= is_client && flags.intersects(EventFlags::HUP | EventFlags::ERR);
        }
        Ok(())
    }

    /// Takes a client for a port that has none.
    pub(super) fn accept(&mut self, port: usize) {
        let Self { epoll, ends } = self;
        let Some(end) = ends.get_mut(port) else { return };
        while end.acceptable && end.client.is_none() {
            let Backend::Socket(listener) = &end.backend else { return };
            let client = match listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::warn!(%error, "a client of the virtio console has to wait");
                    }
                    end.acceptable = false;
                    return;
                }
            };
            let data = EventData::new_u64(port as u64 * 2 + 1);
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            let watched = client
                .set_nonblocking(true)
                .and_then(|()| epoll::add(&*epoll, &client, data, flags).map_err(io::Error::from));
            match watched {
                Ok(()) => {
                    (end.readable, end.writable) = (true, true);
                    end.client = Some(client);
                }
                Err(error) => tracing::warn!(%error, "a client of the virtio console is sent away"),
            }
        }
    }
}
