//! A port while a driver has the device: its queues, and what is on its way between them and the host's end.

use std::io::{Read, Write};

use super::end::{End, Got};
use crate::virtio::{Chain, Queue, RingError};

/// Chains moved in one direction before others have their turn.
const PORTION: usize = 64;
/// Bytes moved at a time.
const BLOCK: usize = 4096;

/// A port.
#[derive(Default)]
pub(super) struct Port {
    pub(super) receive: Option<Queue>,
    pub(super) transmit: Option<Queue>,
    /// A chain to be filled when there is something to fill it with.
    spare: Option<Chain>,
    /// A chain of which so many bytes have been taken.
    held: Option<(Chain, u64)>,
    /// Whether somebody in the guest reads.
    is_open: bool,
    /// Nobody does any more: the client is to go when it has all that was sent.
    closing: bool,
}

impl Port {
    /// A port without queues.
    pub(super) fn new(is_open: bool) -> Self {
        Self { is_open, ..Self::default() }
    }

    /// The receive queue comes or goes.
    pub(super) fn set_receive(&mut self, queue: Option<Queue>) {
        self.spare = None;
        self.receive = queue;
    }

    /// The transmit queue comes or goes.
    pub(super) fn set_transmit(&mut self, queue: Option<Queue>) {
        self.held = None;
        self.transmit = queue;
    }

    /// A program of the guest has opened the port, or closed it.
    pub(super) fn set_open(&mut self, open: bool) {
        self.closing = self.is_open && !open;
        self.is_open = open;
    }

    /// Moves what can be moved both ways. True: there may be more.
    pub(super) fn turn(&mut self, end: &mut End) -> Result<bool, RingError> {
        let more_to_host = self.send(end)?;
        let more_to_guest = self.receive_input(end)?;
        if self.closing && !more_to_host && self.held.is_none() {
            self.closing = false;
            end.close();
        }
        end.forget_gone(self.is_open);
        Ok(more_to_host || more_to_guest)
    }

    fn send(&mut self, end: &mut End) -> Result<bool, RingError> {
        end.flush();
        let Some(queue) = &mut self.transmit else { return Ok(false) };
        for _ in 0..PORTION {
            let Some((chain, taken)) = next_of(&mut self.held, queue)? else {
                queue.notify()?;
                return Ok(false);
            };
            let mut reader = chain.reader();
            // Passes what is taken.
            reader.slices(taken)?;
            let mut block = [0; BLOCK];
            let length = reader.read(&mut block).map_err(RingError::Access)?;
            let rid = end.take(block.get(..length).unwrap_or_default());
            let taken = taken + rid as u64;
            if taken >= chain.readable_bytes() {
                queue.complete(&chain, 0)?;
            } else {
                self.held = Some((chain, taken));
                if rid < length {
                    queue.notify()?;
                    return Ok(false);
                }
            }
        }
        queue.notify()?;
        Ok(true)
    }

    fn receive_input(&mut self, end: &mut End) -> Result<bool, RingError> {
        let Some(queue) = self.receive.as_mut().filter(|_| self.is_open) else { return Ok(false) };
        for _ in 0..PORTION {
            let next = match self.spare.take() {
                Some(chain) => Some(chain),
                None => next(queue)?,
            };
            let Some(chain) = next else {
                queue.notify()?;
                return Ok(false);
            };
            let room = usize::try_from(chain.writable_bytes()).unwrap_or(BLOCK).min(BLOCK);
            if room == 0 {
                return Err(RingError::Request("buffer for a console's input"));
            }
            let mut block = [0; BLOCK];
            match end.read(block.get_mut(..room).unwrap_or_default()) {
                Got::Bytes(length) => {
                    let mut writer = chain.writer();
                    let bytes = block.get(..length).unwrap_or_default();
                    writer.write_all(bytes).map_err(RingError::Access)?;
                    queue.complete(&chain, writer.written())?;
                }
                Got::Nothing => {
                    self.spare = Some(chain);
                    queue.notify()?;
                    return Ok(false);
                }
            }
        }
        queue.notify()?;
        Ok(true)
    }
}

fn next_of(held: &mut Option<(Chain, u64)>, queue: &mut Queue) -> Result<Option<(Chain, u64)>, RingError> {
    match held.take() {
        Some(held) => Ok(Some(held)),
        None => Ok(next(queue)?.map(|chain| (chain, 0))),
    }
}

/// The next chain. If there is none, the driver is asked to kick.
pub(super) fn next(queue: &mut Queue) -> Result<Option<Chain>, RingError> {
    match queue.pop()? {
        None if queue.enable_kicks()? => queue.pop(),
        chain => Ok(chain),
    }
}
