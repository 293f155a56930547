//! The thread between the queues and the bridge.

use std::os::fd::AsRawFd;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use super::bridge::Bridge;
use crate::virtio::worker::ServesQueues;
use crate::virtio::{Chain, Notifier, Queue, RingError};

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const EVENTS: u16 = 2;
/// What the bridge's events carry; those of queues carry their numbers.
const BRIDGE: u32 = 3;
/// Packets moved in one direction before it is the other's turn, and turns before others are.
const PORTION: usize = 64;
const TURNS: usize = 8;

/// Moves packets.
pub(super) struct Server {
    bridge: Bridge,
    notifier: Notifier,
    receive: Option<Queue>,
    /// Taken from there, and not yet of use.
    spare: Option<Chain>,
    transmit: Option<Queue>,
    /// Nothing ever happens that the guest would have to hear of.
    events: Option<Queue>,
    broken: bool,
}

impl Server {
    /// Moves packets between `bridge` and the queues that it is given.
    pub(super) fn new(bridge: Bridge, notifier: Notifier) -> Self {
        Self { bridge, notifier, receive: None, spare: None, transmit: None, events: None, broken: false }
    }

    fn queues(&self) -> impl Iterator<Item = &Queue> {
        [&self.receive, &self.transmit].into_iter().flatten()
    }

    /// Moves what can be moved, for a while.
    fn turn(&mut self) -> Result<(), RingError> {
        for _ in 0..TURNS {
            self.bridge.accept().map_err(RingError::Host)?;
            if self.take()? + self.give()? == 0 {
                return Ok(());
            }
        }
        // There is more to do, after whatever else has happened meanwhile.
        self.queues().for_each(Queue::come_back);
        Ok(())
    }

    /// Takes packets from the guest.
    fn take(&mut self) -> Result<usize, RingError> {
        let Some(queue) = &mut self.transmit else { return Ok(0) };
        queue.disable_kicks()?;
        let mut taken = 0;
        // When the bridge is full the guest has something to take first, and its kick of that queue leads back here.
        while taken < PORTION && !self.bridge.is_full() {
            if let Some(chain) = queue.pop()? {
                self.bridge.receive(&chain)?;
                queue.complete(&chain, 0)?;
                taken += 1;
            } else if !queue.enable_kicks()? {
                break;
            }
        }
        queue.notify()?;
        Ok(taken)
    }

    /// Gives packets to the guest.
    fn give(&mut self) -> Result<usize, RingError> {
        let Some(queue) = &mut self.receive else { return Ok(0) };
        queue.disable_kicks()?;
        let mut given = 0;
        while given < PORTION && self.bridge.has_packets() {
            let next = match self.spare.take() {
                Some(chain) => Some(chain),
                None => queue.pop()?,
            };
            let Some(chain) = next else {
                if queue.enable_kicks()? {
                    continue;
                }
                break;
            };
            match self.bridge.fill(&chain)? {
                Some(written) => {
                    queue.complete(&chain, written)?;
                    given += 1;
                }
                None => self.spare = Some(chain),
            }
        }
        queue.notify()?;
        Ok(given)
    }
}

impl ServesQueues for Server {
    const NAME: &'static str = "virtio-vsock";

    fn set(&mut self, index: u16, queue: Option<Queue>) {
        match index {
            RECEIVE => {
                self.spare = None;
                self.receive = queue;
            }
            TRANSMIT => self.transmit = queue,
            EVENTS => self.events = queue,
            _ => {}
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
        let polled = match events.data() {
            BRIDGE => self.bridge.poll().map_err(RingError::Host),
            _ => Ok(()),
        };
        if let Err(error) = polled.and_then(|()| self.turn()) {
            self.broken = true;
            self.notifier.broken(&error);
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let kicks = self.queues().map(|queue| queue.kicks(queue.index().into()));
        let polled: Vec<_> = kicks
            .chain([Events::with_data_raw(self.bridge.event().as_raw_fd(), BRIDGE, EventSet::IN)])
            .collect();
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
