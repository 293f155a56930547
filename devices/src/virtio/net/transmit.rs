//! Frames from the driver to the tap (virtio 1.3 §5.1.6.2).
//!
//! The kernel reads a frame straight from the driver's buffers, header and all, and refuses what makes no sense. Such a frame
//! is dropped, as a wire would. A tap that is full makes the driver wait: its chains stay in the ring.

use std::io;
use std::sync::Arc;

use super::Card;
use super::pair::held_by;
use crate::rate::Throttle;
use crate::tap::{self, HEADER, MOST_FRAME, MOST_SLICES};
use crate::virtio::{Chain, Queue, RingError};

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

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Whether it has a frame for which the tap had no room.
    pub(super) fn waits_for_room(&self) -> bool {
        self.waiting.is_some()
    }

    /// Sends what the driver has made available, and need not kick for from now on. True: there is no more.
    pub(super) fn serve(&mut self, throttle: &mut Option<Throttle>) -> bool {
        self.send_all(throttle).unwrap_or_else(|error| {
            self.queue.notifier().broken(&error);
            false
        })
    }

    /// Tells the driver what is sent, and asks it to kick if that is `all` there is.
    pub(super) fn conclude(&mut self, all: bool) {
        let concluded = self.queue.notify().and_then(|()| if all { self.wait_for_kicks() } else { Ok(()) });
        if let Err(error) = concluded {
            self.queue.notifier().broken(&error);
        }
    }

    fn send_all(&mut self, throttle: &mut Option<Throttle>) -> Result<bool, RingError> {
        self.queue.disable_kicks()?;
        // A driver that adds frames without end lets others have their turn.
        for _ in 0..self.queue.addresses().size {
            let next = match self.waiting.take() {
                // It was let through when it was taken from the ring.
                Some(chain) => Some(chain),
                // Kicks would change nothing until the timer fires.
                None if held_by(throttle)? => return Ok(false),
                None => self.queue.pop()?,
            };
            let Some(chain) = next else { return Ok(true) };
            match self.send(&chain)? {
                Sent::Later => {
                    self.waiting = Some(chain);
                    return Ok(false);
                }
                Sent::Gone => self.card.lose(self.queue.notifier()),
                Sent::Done => {}
            }
            throttle.iter().for_each(|throttle| throttle.charge(chain.readable_bytes() - HEADER as u64));
            self.queue.complete(&chain, 0)?;
        }
        self.queue.come_back();
        Ok(false)
    }

    fn wait_for_kicks(&mut self) -> Result<(), RingError> {
        if self.queue.enable_kicks()? {
            self.queue.disable_kicks()?;
            self.queue.come_back();
        }
        Ok(())
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
}
