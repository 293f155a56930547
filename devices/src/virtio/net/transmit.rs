//! Frames from the driver to the tap (virtio 1.3 §5.1.6.2).
//!
//! The kernel reads a frame straight from the driver's buffers, header and all, and refuses what makes no sense. Such a frame
//! is dropped, as a wire would. A tap that is full makes the driver wait: its chains stay in the ring.

use std::io;
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use super::Card;
use crate::tap::{self, HEADER, MOST_FRAME, MOST_SLICES, TapQueue};
use crate::virtio::{Chain, Queue, RingError};

const KICK: u32 = 0;
const ROOM: u32 = 1;

/// Serves a transmit queue.
pub(super) struct Transmitter {
    card: Arc<Card>,
    /// Which of the tap's queues.
    pair: usize,
    queue: Queue,
    /// A frame for which the tap had no room, which is waited for.
    waiting: Option<Chain>,
}

/// What became of a frame.
enum Sent {
    /// The kernel has it, or nobody ever will.
    Done,
    /// The tap is full.
    Later,
    /// There is no tap any more.
    Gone,
}

impl Transmitter {
    pub(super) fn new(card: Arc<Card>, pair: usize, queue: Queue) -> Self {
        Self { card, pair, queue, waiting: None }
    }

    /// Sends what the driver has made available.
    fn serve(&mut self) -> Result<(), RingError> {
        self.queue.disable_kicks()?;
        // A driver that adds frames without end lets others have their turn.
        for _ in 0..self.queue.addresses().size {
            let next = match self.waiting.take() {
                None => self.queue.pop()?,
                waiting => waiting,
            };
            let Some(chain) = next else {
                if self.queue.enable_kicks()? {
                    self.queue.disable_kicks()?;
                    continue;
                }
                return self.queue.notify();
            };
            match self.send(&chain)? {
                Sent::Later => {
                    self.waiting = Some(chain);
                    return self.queue.notify();
                }
                Sent::Gone => self.card.lose(self.queue.notifier()),
                Sent::Done => {}
            }
            self.queue.complete(&chain, 0)?;
        }
        self.queue.come_back();
        self.queue.notify()
    }

    fn send(&self, chain: &Chain) -> Result<Sent, RingError> {
        let bytes = chain.readable_bytes();
        if bytes < HEADER as u64 {
            return Err(RingError::Request("frame to be sent"));
        }
        let Some(tap) = self.card.link.queues().get(self.pair).filter(|_| !self.card.is_lost()) else {
            return Ok(Sent::Done);
        };
        if bytes > MOST_FRAME as u64 {
            self.card.dropped("a frame that is larger than any");
            return Ok(Sent::Done);
        }
        let slices = chain.reader().slices(bytes)?;
        if slices.len() > MOST_SLICES {
            return Err(RingError::TooLong);
        }
        Ok(match tap.send(&slices) {
            Ok(()) => Sent::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Later,
            Err(error) if tap::is_gone(&error) => Sent::Gone,
            Err(error) => {
                tracing::debug!(tap = self.card.link.name(), %error, "frame is not taken");
                Sent::Done
            }
        })
    }

    /// Waits for room in the tap, or does not.
    fn watch(&self, tap: &TapQueue, wait: bool, ops: &mut EventOps) {
        let events = Events::with_data(tap, ROOM, EventSet::OUT);
        let changed = if wait { ops.add(events) } else { ops.remove(events) };
        if let Err(error) = changed {
            self.queue.notifier().broken(&error);
        }
    }
}

impl MutEventSubscriber for Transmitter {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.data() == KICK {
            self.queue.take_kick();
        }
        let card = Arc::clone(&self.card);
        let Some(tap) = card.link.queues().get(self.pair) else { return };
        if events.data() == ROOM {
            self.watch(tap, false, ops);
        } else if self.waiting.is_some() {
            return;
        }
        if self.queue.notifier().is_broken() {
            return;
        }
        if let Err(error) = self.serve() {
            self.queue.notifier().broken(&error);
        } else if self.waiting.is_some() {
            self.watch(tap, true, ops);
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::with_data(self.queue.kick(), KICK, EventSet::IN)) {
            self.queue.notifier().broken(&error);
        }
        self.queue.come_back();
    }
}
