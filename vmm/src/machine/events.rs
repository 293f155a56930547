//! The event loop of the main thread: the operator's keys, the serial port that takes them, signals, what the host says of
//! passed-through devices, and the end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use devices::serial::SerialPort;
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use vfio::Notice;

use super::ending::{End, Ending};
use super::{Event, Observer};
use crate::console::{Escape, Key};

/// What is typed ahead of a guest that does not read. Beyond it the terminal waits, and so does the escape key.
const TYPE_AHEAD: usize = 1 << 20;
/// The signals that end the machine, and what to say of each.
const SIGNALS: [(i32, &str); 3] =
    [(SIGTERM, "stopped by SIGTERM"), (SIGINT, "stopped by SIGINT"), (SIGHUP, "stopped by SIGHUP")];

const EXIT: u32 = 0;
const INPUT: u32 = 1;
const DRAINED: u32 = 2;
const SIGNAL: u32 = 3;
/// And up: notices, in their order.
const NOTICES: u32 = 4;

/// Where the operator types.
pub struct Input {
    /// A duplicate of standard input.
    pub file: File,
    /// Whether a person types there: only then are there escape keys.
    pub is_terminal: bool,
    /// Sent to the guest when the input ends.
    pub at_end: Option<u8>,
    /// What was read and not yet taken by the guest; survives a guest reboot.
    pub pending: VecDeque<u8>,
    /// Nothing more will come.
    pub ended: bool,
}

impl Input {
    /// Input from `file`.
    pub fn new(file: File, is_terminal: bool, at_end: Option<u8>) -> Self {
        Self { file, is_terminal, at_end, pending: VecDeque::new(), ended: false }
    }
}

/// The signals that end the machine. Caught for the whole session, so that none is lost while the guest reboots.
pub struct Signals(Vec<(Signal, &'static str)>);

impl Signals {
    /// Catches them from now on.
    pub fn catch() -> io::Result<Self> {
        SIGNALS
            .iter()
            .map(|(signal, reason)| Ok((Signal::catch(*signal)?, *reason)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// What to say of one that has arrived.
    fn arrived(&mut self) -> Option<&'static str> {
        let mut byte = [0; 1];
        let mut signals = self.0.iter_mut();
        signals
            .find_map(|(signal, reason)| matches!(signal.arrived.read(&mut byte), Ok(1..)).then_some(*reason))
    }
}

/// Serves the machine until its run ends. Only host resources can make it fail.
pub fn serve(
    ending: &Arc<Ending>,
    serial: &Arc<SerialPort>,
    input: &mut Input,
    signals: &mut Signals,
    notices: &[Notice],
    observer: &Arc<dyn Observer>,
) -> io::Result<()> {
    let service = Service {
        ending: ending.clone(),
        serial: serial.clone(),
        observer: observer.clone(),
        input,
        escape: Escape::default(),
        watching: false,
        unpollable: false,
        signals,
        notices,
    };
    let mut manager = EventManager::<Box<dyn MutEventSubscriber + '_>>::new().map_err(io::Error::other)?;
    manager.add_subscriber(Box::new(service));
    while !ending.is_over() {
        manager.run().map_err(io::Error::other)?;
    }
    Ok(())
}

/// A signal that arrives as bytes in a socket.
struct Signal {
    arrived: UnixStream,
    id: signal_hook::SigId,
}

impl Signal {
    fn catch(signal: i32) -> io::Result<Self> {
        let (arrived, sender) = UnixStream::pair()?;
        arrived.set_nonblocking(true)?;
        let id = signal_hook::low_level::pipe::register(signal, sender)?;
        Ok(Self { arrived, id })
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.id);
    }
}

struct Service<'a> {
    ending: Arc<Ending>,
    serial: Arc<SerialPort>,
    observer: Arc<dyn Observer>,
    input: &'a mut Input,
    escape: Escape,
    /// Input is in the poll set.
    watching: bool,
    /// Input is a file of a kind that is always ready and cannot be polled.
    unpollable: bool,
    signals: &'a mut Signals,
    notices: &'a [Notice],
}

impl Service<'_> {
    fn read_input(&mut self) {
        let mut buffer = [0; 4096];
        match self.input.file.read(&mut buffer) {
            Ok(0) => self.end_input(),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                if self.input.is_terminal {
                    for key in self.escape.filter(bytes, &mut self.input.pending) {
                        match key {
                            Key::Quit => self.ending.end(End::Stopped("stopped from the console")),
                            Key::Help => self.observer.notify(&Event::ConsoleHelp),
                        }
                    }
                } else {
                    self.input.pending.extend(bytes);
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => {
                tracing::warn!(%error, "console input ends: it cannot be read");
                self.end_input();
            }
        }
    }

    fn end_input(&mut self) {
        self.input.ended = true;
        self.input.pending.extend(self.input.at_end);
    }

    /// Gives the guest what it has room for, once it listens.
    fn feed_guest(&mut self) {
        loop {
            let (front, _) = self.input.pending.as_slices();
            let taken = if self.serial.is_listening() { self.serial.push_input(front) } else { 0 };
            if taken == 0 {
                return;
            }
            self.input.pending.drain(..taken);
        }
    }

    /// Moves input as far as it goes, and polls for more when there is room for it.
    fn pump(&mut self, ops: &mut EventOps) {
        self.feed_guest();
        while self.unpollable && !self.input.ended && self.input.pending.is_empty() {
            self.read_input();
            self.feed_guest();
        }
        let wanted = !self.unpollable && !self.input.ended && self.input.pending.len() < TYPE_AHEAD;
        if wanted == self.watching {
            return;
        }
        let events = Events::with_data(&self.input.file, INPUT, EventSet::IN);
        if !wanted {
            if let Err(error) = ops.remove(events) {
                tracing::warn!(%error, "console input still polled");
            }
        } else if ops.add(events).is_err() {
            // EPERM: a regular file or /dev/null, which is always ready.
            self.unpollable = true;
            return self.pump(ops);
        }
        self.watching = wanted;
    }
}

impl MutEventSubscriber for Service<'_> {
    fn init(&mut self, ops: &mut EventOps) {
        let fixed = [
            Events::with_data_raw(self.ending.event().as_raw_fd(), EXIT, EventSet::IN),
            Events::with_data_raw(self.serial.drained().as_raw_fd(), DRAINED, EventSet::IN),
        ];
        let signals =
            self.signals.0.iter().map(|(signal, _)| Events::with_data(&signal.arrived, SIGNAL, EventSet::IN));
        let notices = (NOTICES..).zip(self.notices);
        let notices = notices.map(|(data, notice)| Events::with_data(notice, data, EventSet::IN));
        for events in fixed.into_iter().chain(signals).chain(notices) {
            if let Err(error) = ops.add(events) {
                tracing::error!(%error, "cannot poll, stopping");
                self.ending.end(End::Stopped("stopped: the event loop could not be set up"));
            }
        }
        self.pump(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            INPUT => self.read_input(),
            DRAINED => {
                // Counts how often; only that it happened matters.
                let _ = self.serial.drained().read();
            }
            SIGNAL => {
                if let Some(reason) = self.signals.arrived() {
                    self.ending.end(End::Stopped(reason));
                }
            }
            data => {
                let number = data.checked_sub(NOTICES).and_then(|number| usize::try_from(number).ok());
                if let Some(notice) = number.and_then(|number| self.notices.get(number)) {
                    self.ending.end(End::Lost(notice.loss()));
                }
            }
        }
        self.pump(ops);
    }
}
