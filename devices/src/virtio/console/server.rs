//! Serving all queues of a console device on one thread, which does all that can be done whenever something has become possible.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use super::TerminalSize;
use super::control::{self, LENGTH, Said, Topic, Untold};
use super::end::Ends;
use super::port::{Port, next};
use crate::sync::lock;
use crate::virtio::worker::ServesQueues;
use crate::virtio::{Notifier, Queue, RingError};

/// Messages of the driver that are read before others have their turn.
const PORTION: usize = 64;
/// Queues to talk of ports, after those of the first one (§5.3.2).
const TELL: usize = 2;
const HEAR: usize = 3;
/// What the event of the host's ends carries; kicks carry the numbers of their queues.
const ENDS: u32 = u32::MAX - 1;

/// What the driver knows of a port.
#[derive(Clone, Copy, Default)]
struct Known {
    /// It has taken it up, and hears of changes.
    taken_up: bool,
    /// Somebody is there on the host.
    open: bool,
    size: Option<(u16, u16)>,
}

/// Serves a console device's queues.
pub(super) struct Server {
    names: Vec<Option<String>>,
    multiport: bool,
    ends: Arc<Mutex<Ends>>,
    size: Arc<TerminalSize>,
    notifier: Notifier,
    ports: Vec<Port>,
    tell: Option<Queue>,
    hear: Option<Queue>,
    untold: Untold,
    known: Vec<Known>,
    broken: bool,
}

impl Server {
    /// For ports of these names.
    pub(super) fn new(
        names: &[Option<String>],
        multiport: bool,
        ends: Arc<Mutex<Ends>>,
        size: Arc<TerminalSize>,
        notifier: Notifier,
    ) -> Self {
        // A driver that knows one port only cannot say that it is open.
        let port = |_| Port::new(!multiport);
        Self {
            names: names.to_vec(),
            multiport,
            ends,
            size,
            notifier,
            ports: names.iter().map(port).collect(),
            tell: None,
            hear: None,
            untold: Untold::default(),
            known: vec![Known::default(); names.len()],
            broken: false,
        }
    }

    fn turn(&mut self) -> Result<(), RingError> {
        let ends = self.ends.clone();
        let mut ends = lock(&ends);
        ends.poll().map_err(RingError::Host)?;
        let mut more = self.hear()?;
        for (number, port) in self.ports.iter_mut().enumerate() {
            ends.accept(number);
            let Some(end) = ends.get_mut(number) else { continue };
            more |= port.turn(end)?;
            // One that has gone makes room for the next.
            ends.accept(number);
        }
        self.look(&mut ends);
        self.tell(&mut ends)?;
        if more {
            self.queues().take(1).for_each(Queue::come_back);
        }
        Ok(())
    }

    /// Hears what the driver says of ports. True: there may be more.
    fn hear(&mut self) -> Result<bool, RingError> {
        for _ in 0..PORTION {
            let Some(queue) = &mut self.hear else { return Ok(false) };
            let Some(chain) = next(queue)? else {
                queue.notify()?;
                return Ok(false);
            };
            let message =
                chain.reader().array::<LENGTH>().ok_or(RingError::Request("message of a console"))?;
            queue.complete(&chain, 0)?;
            match Said::of(message) {
                Said::Ready => (0..self.ports.len()).for_each(|port| self.untold.note(port, Topic::There)),
                Said::PortReady(port) => {
                    let Some(known) = self.known.get_mut(port) else { continue };
                    known.taken_up = true;
                    for topic in [Topic::Name, Topic::Console, Topic::Open, Topic::Size] {
                        self.untold.note(port, topic);
                    }
                }
                Said::Open(port, open) => {
                    if let Some(port) = self.ports.get_mut(port) {
                        port.set_open(open);
                    }
                }
                Said::Nothing => {}
            }
        }
        Ok(true)
    }

    /// Notes what has changed on the host.
    fn look(&mut self, ends: &mut Ends) {
        for (port, known) in self.known.iter_mut().enumerate() {
            let Some(end) = ends.get_mut(port) else { continue };
            let now = Known { open: end.is_open(), size: end.size(), ..*known };
            if known.open != now.open && known.taken_up {
                self.untold.note(port, Topic::Open);
            }
            if known.size != now.size
                && let Some((columns, rows)) = now.size
            {
                if known.taken_up {
                    self.untold.note(port, Topic::Size);
                }
                if port == 0 {
                    self.size.set(columns, rows);
                    if !self.multiport {
                        self.notifier.config_changed();
                    }
                }
            }
            *known = now;
        }
    }

    /// Tells the driver what it is to know, as far as it has room for that.
    fn tell(&mut self, ends: &mut Ends) -> Result<(), RingError> {
        let Some(queue) = &mut self.tell else { return Ok(()) };
        while let Some((port, topic)) = self.untold.next() {
            let name = self.names.get(port).and_then(Option::as_deref);
            let end = ends.get_mut(port);
            let message = match topic {
                Topic::There => Some(control::there(port)),
                Topic::Console => name.is_none().then(|| control::console(port)),
                Topic::Name => name.map(|name| control::name(port, name)),
                // A console is always there, whether somebody looks at it or not.
                Topic::Open => end.map(|end| control::open(port, name.is_none() || end.is_open())),
                Topic::Size => {
                    end.and_then(|end| end.size()).map(|(columns, rows)| control::size(port, columns, rows))
                }
            };
            if let Some(message) = message {
                let Some(chain) = next(queue)? else { break };
                let mut writer = chain.writer();
                writer.write_all(&message).map_err(|_| RingError::Request("buffer for a message"))?;
                queue.complete(&chain, writer.written())?;
            }
            self.untold.told();
        }
        queue.notify()
    }

    fn queues(&self) -> impl Iterator<Item = &Queue> {
        let ports = self.ports.iter().flat_map(|port| [&port.receive, &port.transmit]);
        ports.chain([&self.tell, &self.hear]).flatten()
    }
}

impl ServesQueues for Server {
    const NAME: &'static str = "virtio-console";

    fn set(&mut self, index: u16, queue: Option<Queue>) {
        let index = usize::from(index);
        let port = match index {
            TELL => return self.tell = queue,
            HEAR => return self.hear = queue,
            0 | 1 => 0,
            later => later / 2 - 1,
        };
        match self.ports.get_mut(port) {
            Some(port) if index % 2 == 0 => port.set_receive(queue),
            Some(port) => port.set_transmit(queue),
            None => {}
        }
    }
}

impl MutEventSubscriber for Server {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if self.broken {
            // Nothing is of interest any more.
            let _ = ops.remove(events);
            return;
        }
        if let Err(error) = self.turn() {
            self.broken = true;
            self.notifier.broken(&error);
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let kicks = self.queues().map(|queue| queue.kicks(queue.index().into()));
        let ends = lock(&self.ends).event().as_raw_fd();
        let polled: Vec<_> = kicks.chain([Events::with_data_raw(ends, ENDS, EventSet::IN)]).collect();
        for event in polled {
            if let Err(error) = ops.add(event) {
                self.broken = true;
                self.notifier.broken(&error);
            }
        }
        // Chains may have been made available before anybody listened.
        self.queues().for_each(Queue::come_back);
    }
}
