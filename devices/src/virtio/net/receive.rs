//! Frames from the tap to the driver (virtio 1.3 §5.1.6.3).
//!
//! The kernel writes a frame straight into the driver's buffers. How long it is shows only then: what does not fit what the
//! driver has made available so far goes into memory of ours, and from there into what it adds. A driver that has no buffers
//! leaves frames in the tap, whose queue the kernel bounds.

use std::io::Write;
use std::sync::Arc;

use vm_memory::VolatileSlice;

use super::Card;
use super::pair::held_by;
use crate::rate::Throttle;
use crate::tap::{self, HEADER, MOST_FRAME, MOST_SLICES, TapQueue};
use crate::virtio::{Chain, Queue, RingError};

/// Frames taken before the driver is told of them, and others have their turn.
const PORTION: usize = 64;
/// After so many usual frames in a row no large ones are expected: room for those costs each of the usual ones.
const USUAL_IN_A_ROW: u32 = 16;
/// Where the header says how many chains a frame fills.
const COUNT: u64 = 10;

/// Serves a receive queue.
pub(super) struct Receiver {
    card: Arc<Card>,
    /// Which of the tap's queues.
    pair: usize,
    queue: Queue,
    /// Whether a frame may fill several chains.
    mergeable: bool,
    /// Bytes of a frame of one packet.
    usual: u64,
    /// Whether there may be larger ones.
    large: bool,
    /// Frames of one packet since the last larger one.
    in_a_row: u32,
    /// Chains taken from the ring, none of them given back.
    held: Vec<Chain>,
    /// What a frame has beyond their room.
    rest: Vec<u8>,
    /// A frame of which `rest` has so many bytes to be given yet.
    left: Option<Left>,
    /// Frames are waited for, not buffers.
    waits_for_frames: bool,
}

/// A frame that waits for more chains.
#[derive(Clone, Copy)]
struct Left {
    frame: usize,
    /// Where in `rest` what is left begins, and how much there is.
    from: usize,
    bytes: usize,
}

/// Why no more frames are taken now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// There are none.
    Tap,
    /// The driver has no buffers.
    Ring,
    /// Others have their turn.
    Turn,
    /// A limit does not allow more; a timer says when it does.
    Limit,
    /// There will be no more.
    Gone,
}

impl Receiver {
    pub(super) fn new(card: Arc<Card>, pair: usize, queue: Queue, mergeable: bool, large: bool) -> Self {
        let usual = HEADER as u64 + 18 + u64::from(card.link.mtu());
        Self {
            card,
            pair,
            queue,
            mergeable,
            usual,
            large,
            in_a_row: 0,
            held: Vec::new(),
            rest: vec![0; MOST_FRAME],
            left: None,
            waits_for_frames: false,
        }
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Whether it has room for frames, and has seen none that it has not taken.
    pub(super) fn waits_for_frames(&self) -> bool {
        self.waits_for_frames
    }

    /// Gives the driver what frames there are, while it has buffers.
    pub(super) fn serve(&mut self, throttle: &mut Option<Throttle>) {
        let done = self.take_portion(throttle).map_err(|error| self.queue.notifier().broken(&error));
        self.waits_for_frames = matches!(done, Ok(Pause::Tap | Pause::Turn));
        match done {
            // What is left of a frame is given as soon as the driver adds to its ring.
            Ok(Pause::Turn) if self.left.is_some() => self.queue.come_back(),
            Ok(Pause::Gone) => self.card.lose(self.queue.notifier()),
            _ => {}
        }
    }

    fn take_portion(&mut self, throttle: &mut Option<Throttle>) -> Result<Pause, RingError> {
        self.queue.disable_kicks()?;
        let mut pause = Pause::Turn;
        for _ in 0..PORTION {
            pause = match self.step(throttle)? {
                Some(Pause::Ring) if self.queue.enable_kicks()? => {
                    self.queue.disable_kicks()?;
                    continue;
                }
                Some(pause) => pause,
                None => continue,
            };
            break;
        }
        self.queue.notify()?;
        Ok(pause)
    }

    /// Takes one frame, or goes on with one.
    fn step(&mut self, throttle: &mut Option<Throttle>) -> Result<Option<Pause>, RingError> {
        if let Some(left) = self.left {
            return self.go_on(left);
        }
        if held_by(throttle)? {
            return Ok(Some(Pause::Limit));
        }
        let room = self.gather()?;
        let Some(first) = self.held.first() else { return Ok(Some(Pause::Ring)) };
        if first.writable_bytes() < HEADER as u64 {
            return Err(RingError::Request("receive buffer"));
        }
        let Some(tap) = self.card.link.queues().get(self.pair) else { return Ok(Some(Pause::Gone)) };
        match receive(tap, &self.held, &mut self.rest) {
            Ok(frame) if frame < HEADER => Ok(None),
            Ok(frame) => {
                let bytes = self.note(frame);
                throttle.iter().for_each(|throttle| throttle.charge(bytes - HEADER as u64));
                match bytes.checked_sub(room) {
                    None | Some(0) => self.give(frame)?,
                    Some(_) if !self.mergeable => {
                        self.card.dropped("a frame that is larger than the driver's buffers");
                    }
                    Some(over) => self.left = Some(Left { frame, from: 0, bytes: over as usize }),
                }
                Ok(None)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(Some(Pause::Tap)),
            Err(error) if tap::is_gone(&error) => Ok(Some(Pause::Gone)),
            Err(error) => {
                tracing::debug!(tap = self.card.link.name(), %error, "frame cannot be received");
                Ok(Some(Pause::Tap))
            }
        }
    }

    /// Learns from a frame how large the next may be; gives its bytes.
    fn note(&mut self, frame: usize) -> u64 {
        let bytes = u64::try_from(frame).unwrap_or(u64::MAX);
        self.in_a_row = if bytes > self.usual { 0 } else { self.in_a_row.saturating_add(1) };
        bytes
    }

    /// Bytes of room to have before a frame is taken, if the driver gives them.
    fn wanted(&self) -> u64 {
        if self.large && self.in_a_row < USUAL_IN_A_ROW { MOST_FRAME as u64 } else { self.usual }
    }

    /// Takes chains until there is room for the next frame, or the driver has no more; gives the room.
    fn gather(&mut self) -> Result<u64, RingError> {
        let mut room: u64 = self.held.iter().map(Chain::writable_bytes).sum();
        let mut pieces: usize = self.held.iter().map(|chain| chain.writable().len()).sum();
        let wanted = self.wanted();
        let enough = |held: &[Chain], room: u64| !held.is_empty() && (!self.mergeable || room >= wanted);
        // A buffer may lie in two regions of memory.
        while !enough(&self.held, room) && pieces * 2 < MOST_SLICES / 2 {
            let Some(chain) = self.queue.pop()? else { break };
            room += chain.writable_bytes();
            pieces += chain.writable().len();
            self.held.push(chain);
        }
        if pieces * 2 >= MOST_SLICES { Err(RingError::TooLong) } else { Ok(room) }
    }

    /// Gives the driver the next chain for what is left of a frame.
    fn go_on(&mut self, left: Left) -> Result<Option<Pause>, RingError> {
        let Some(chain) = self.queue.pop()? else {
            if self.held.len() < usize::from(self.queue.addresses().size / 2) {
                return Ok(Some(Pause::Ring));
            }
            // A driver whose whole ring has no room for it will never have.
            self.left = None;
            self.card.dropped("a frame that is larger than all of the driver's buffers");
            return Ok(None);
        };
        let bytes = usize::try_from(chain.writable_bytes()).map_or(left.bytes, |room| room.min(left.bytes));
        let from = self.rest.get(left.from..left.from + bytes).unwrap_or_default();
        chain.writer().write_all(from).map_err(RingError::Access)?;
        self.held.push(chain);
        let rest = Left { from: left.from + bytes, bytes: left.bytes - bytes, ..left };
        self.left = Some(rest).filter(|rest| rest.bytes > 0);
        if self.left.is_none() {
            self.give(left.frame)?;
        }
        Ok(None)
    }

    /// Gives the driver a frame of so many bytes that lies in the first of the held chains.
    fn give(&mut self, frame: usize) -> Result<(), RingError> {
        let mut left = u64::try_from(frame).unwrap_or(u64::MAX);
        let mut written = Vec::new();
        for chain in &self.held {
            if left == 0 {
                break;
            }
            let bytes = chain.writable_bytes().min(left);
            left -= bytes;
            written.push(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
        let filled: Vec<(Chain, u32)> = self.held.drain(..written.len()).zip(written).collect();
        let count = u16::try_from(filled.len()).unwrap_or(u16::MAX);
        if let Some((first, _)) = filled.first() {
            let mut writer = first.writer();
            writer.slices(COUNT)?;
            writer.write_all(&count.to_le_bytes()).map_err(RingError::Access)?;
        }
        self.queue.complete_all(&filled)
    }
}

/// Takes a frame into chains, and what they have no room for into `rest`.
fn receive(tap: &TapQueue, chains: &[Chain], rest: &mut [u8]) -> std::io::Result<usize> {
    let mut slices: Vec<VolatileSlice<'_>> = Vec::new();
    for chain in chains {
        slices.extend(chain.writer().slices(u64::MAX).map_err(std::io::Error::other)?);
    }
    tap.receive(&slices, rest)
}
