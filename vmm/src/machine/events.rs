//! The event loop of the main thread: the operator's keys, the serial port that takes them, requests, signals, what the
//! host says of passed-through devices, and the end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::timerfd::TimerFd;

use super::control::Requests;
use super::ending::End;
use super::lean;
use super::running::Running;
use super::signals::{SignalName, Signals};
use super::{Event, Observer};
use crate::console::{Escape, Key};

/// What is typed ahead of a guest that does not read. Beyond it the terminal waits, and so does the escape key.
const TYPE_AHEAD: usize = 1 << 20;

const EXIT: u32 = 0;
const INPUT: u32 = 1;
const DRAINED: u32 = 2;
const SIGNAL: u32 = 3;
const REQUEST: u32 = 4;
const SETTLED: u32 = 5;
const OVERDUE: u32 = 6;
const NOTICE: u32 = 7;
const WATCHDOG: u32 = 8;
const PMEM: u32 = 9;

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

/// What comes in from outside the machine, over all its runs.
pub struct Outside<'a> {
    /// The operator's keys.
    pub input: &'a mut Input,
    /// Signals to the process.
    pub signals: &'a mut Signals,
    /// Requests.
    pub requests: &'a Requests,
    /// How long a guest that was asked to power off may take.
    pub grace: Duration,
    /// Who is told what happens.
    pub observer: &'a Arc<dyn Observer>,
}

/// Serves the machine until its run ends. Only host resources can make it fail.
pub fn serve(running: &mut Running, outside: Outside) -> io::Result<()> {
    let ending = running.ending.clone();
    let service = Service {
        running,
        outside,
        escape: Escape::default(),
        watching: false,
        unpollable: false,
        overdue: TimerFd::new().map_err(io::Error::from)?,
        asked_by: None,
    };
    let mut manager = EventManager::<Box<dyn MutEventSubscriber + '_>>::new().map_err(io::Error::other)?;
    manager.add_subscriber(Box::new(service));
    // The vCPUs run already.
    lean::forget_start();
    while !ending.is_over() {
        manager.run().map_err(io::Error::other)?;
    }
    Ok(())
}

struct Service<'a> {
    running: &'a mut Running,
    outside: Outside<'a>,
    escape: Escape,
    /// Input is in the poll set.
    watching: bool,
    /// Input is a file of a kind that is always ready and cannot be polled.
    unpollable: bool,
    /// Runs out when the guest had its time to power off.
    overdue: TimerFd,
    /// The signal for which it has it.
    asked_by: Option<SignalName>,
}

impl Service<'_> {
    fn read_input(&mut self) {
        let input = &mut *self.outside.input;
        let mut buffer = [0; 4096];
        match input.file.read(&mut buffer) {
            Ok(0) => self.end_input(),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                if input.is_terminal {
                    for key in self.escape.filter(bytes, &mut input.pending) {
                        match key {
                            Key::Quit => self.running.ending.end(End::Stopped("stopped from the console")),
                            Key::Help => self.outside.observer.notify(&Event::ConsoleHelp),
                        }
                    }
                } else {
                    input.pending.extend(bytes);
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
        let input = &mut *self.outside.input;
        input.ended = true;
        input.pending.extend(input.at_end);
    }

    /// Gives the guest what it has room for, once it listens.
    fn feed_guest(&mut self) {
        let serial = &self.running.platform.serial;
        let pending = &mut self.outside.input.pending;
        loop {
            let (front, _) = pending.as_slices();
            let taken = if serial.is_listening() { serial.push_input(front) } else { 0 };
            if taken == 0 {
                return;
            }
            pending.drain(..taken);
        }
    }

    /// Moves input as far as it goes, and polls for more when there is room for it.
    fn pump(&mut self, ops: &mut EventOps) {
        self.feed_guest();
        while self.unpollable && !self.outside.input.ended && self.outside.input.pending.is_empty() {
            self.read_input();
            self.feed_guest();
        }
        let input = &*self.outside.input;
        let wanted = !self.unpollable && !input.ended && input.pending.len() < TYPE_AHEAD;
        if wanted == self.watching {
            return;
        }
        let events = Events::with_data(&input.file, INPUT, EventSet::IN);
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

    /// Asks the guest to power off. Who asks twice, or asks a guest that cannot hear, stops the machine.
    fn signalled(&mut self, signal: SignalName) {
        let grace = self.outside.grace;
        if self.asked_by.is_none() && !grace.is_zero() {
            // A guest that is dumped is paused, and has to go on to hear of it.
            self.running.abandon_dump();
            match self.running.press_power_button() {
                Ok(()) => match self.overdue.reset(grace, None) {
                    Ok(()) => {
                        self.asked_by = Some(signal);
                        self.outside.signals.note_asked();
                        let asked = Event::AskedToPowerOff { signal: signal.name, grace };
                        return self.outside.observer.notify(&asked);
                    }
                    Err(error) => tracing::warn!(%error, "the guest gets no time to power off"),
                },
                Err(error) => tracing::info!(%error, "the guest cannot be asked to power off"),
            }
        }
        self.running.ending.end(End::Stopped(signal.stopped));
    }

    fn answer_requests(&mut self) {
        // Counts how often; only that it happened matters.
        let _ = self.outside.requests.wake.read();
        while let Ok(request) = self.outside.requests.queue.try_recv() {
            self.running.answer(request);
        }
    }
}

impl MutEventSubscriber for Service<'_> {
    fn init(&mut self, ops: &mut EventOps) {
        let running = &*self.running;
        let fixed = [
            (running.ending.event().as_raw_fd(), EXIT),
            (running.platform.serial.drained().as_raw_fd(), DRAINED),
            (running.settled().as_raw_fd(), SETTLED),
            (self.outside.requests.wake.as_raw_fd(), REQUEST),
            (self.overdue.as_raw_fd(), OVERDUE),
            (running.devices.notices().as_raw_fd(), NOTICE),
        ];
        let signals = self.outside.signals.sockets().map(|socket| (socket.as_raw_fd(), SIGNAL));
        let watchdog = running.watchdog.iter().map(|watchdog| (watchdog.event(), WATCHDOG));
        let pmem = running.watched.iter().map(|watched| (watched.event().as_raw_fd(), PMEM));
        for (fd, data) in fixed.into_iter().chain(signals).chain(watchdog).chain(pmem) {
            if let Err(error) = ops.add(Events::with_data_raw(fd, data, EventSet::IN)) {
                tracing::error!(%error, "cannot poll, stopping");
                self.running.ending.end(End::Stopped("stopped: the event loop could not be set up"));
            }
        }
        self.pump(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            INPUT => self.read_input(),
            DRAINED => {
                // Counts how often; only that it happened matters.
                let _ = self.running.platform.serial.drained().read();
            }
            SIGNAL => {
                if let Some(signal) = self.outside.signals.arrived() {
                    self.signalled(signal);
                }
            }
            REQUEST => self.answer_requests(),
            SETTLED => self.running.settle(),
            OVERDUE => {
                if let Some(signal) = self.asked_by {
                    self.running.ending.end(End::Stopped(signal.overdue));
                }
            }
            NOTICE => self.running.heed_host(),
            WATCHDOG => self.running.heed_watchdog(),
            PMEM => self.running.heed_files(),
            _ => {}
        }
        self.pump(ops);
    }
}
