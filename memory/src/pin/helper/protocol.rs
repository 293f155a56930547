//! What the monitor and its pin helper say to each other: one message a packet, fixed sizes, native byte order, since
//! both are the same binary. The helper speaks first, then answers each request once.

use std::io;

use crate::pin::trial::TrialUnavailable;

/// Bytes of a request.
pub const REQUEST_SIZE: usize = 24;
/// Bytes of a reply.
pub const REPLY_SIZE: usize = 16;

/// Asked of the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Pin `size` bytes at `offset` of the memfd in the table's `slot`.
    Pin {
        /// Place in the table of pins.
        slot: u32,
        /// First byte in the memfd.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// Give all pins back.
    Release,
}

impl Request {
    /// As it is sent.
    pub fn encode(&self) -> [u8; REQUEST_SIZE] {
        let (op, slot, offset, size) = match *self {
            Self::Pin { slot, offset, size } => (1u32, slot, offset, size),
            Self::Release => (2, 0, 0, 0),
        };
        let mut bytes = [0; REQUEST_SIZE];
        let fields = op
            .to_ne_bytes()
            .into_iter()
            .chain(slot.to_ne_bytes())
            .chain(offset.to_ne_bytes())
            .chain(size.to_ne_bytes());
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }

    /// As it was received, if it is one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (op, rest) = word(bytes)?;
        let (slot, rest) = word(rest)?;
        let (offset, rest) = long(rest)?;
        let (size, rest) = long(rest)?;
        match op {
            _ if !rest.is_empty() => None,
            1 => Some(Self::Pin { slot, offset, size }),
            2 => Some(Self::Release),
            _ => None,
        }
    }
}

/// Answered by the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It can pin, and waits for requests. Its first word, if not the next.
    Ready,
    /// It cannot pin, and ends.
    Unavailable(Lack),
    /// Done as asked.
    Done,
    /// The kernel refused, with this error number.
    Refused(i32),
}

/// What a helper lacks, as [`TrialUnavailable`] in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    kind: u32,
    value: u32,
}

impl Reply {
    /// As it is sent.
    pub fn encode(&self) -> [u8; REPLY_SIZE] {
        let (kind, first, second) = match *self {
            Self::Ready => (1u32, 0, 0),
            Self::Unavailable(lack) => (2, lack.kind, lack.value),
            Self::Done => (3, 0, 0),
            Self::Refused(errno) => (4, errno as u32, 0),
        };
        let mut bytes = [0; REPLY_SIZE];
        let fields = [kind, first, second].into_iter().flat_map(u32::to_ne_bytes);
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }

    /// As it was received, if it is one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != REPLY_SIZE {
            return None;
        }
        let (kind, rest) = word(bytes)?;
        let (first, rest) = word(rest)?;
        let (second, _) = word(rest)?;
        match kind {
            1 => Some(Self::Ready),
            2 => Some(Self::Unavailable(Lack { kind: first, value: second })),
            3 => Some(Self::Done),
            4 => Some(Self::Refused(first as i32)),
            _ => None,
        }
    }
}

impl Lack {
    /// In numbers.
    pub fn new(reason: &TrialUnavailable) -> Self {
        let errno = |source: &io::Error| source.raw_os_error().unwrap_or(libc::EIO) as u32;
        let (kind, value) = match reason {
            TrialUnavailable::NoIoUring => (1, 0),
            TrialUnavailable::Disabled { level } => (2, *level),
            TrialUnavailable::Forbidden => (3, 0),
            TrialUnavailable::NoSparseTable => (4, 0),
            TrialUnavailable::Refused { source } => (5, errno(source)),
            TrialUnavailable::NoUdmabuf { source } => (6, errno(source)),
            TrialUnavailable::OldUdmabuf => (7, 0),
            TrialUnavailable::Memlock { .. }
            | TrialUnavailable::NoHelper { .. }
            | TrialUnavailable::HelperLost { .. } => (0, 0),
        };
        Self { kind, value }
    }

    /// In words.
    pub fn reason(self) -> TrialUnavailable {
        let source = || io::Error::from_raw_os_error(self.value as i32);
        match self.kind {
            1 => TrialUnavailable::NoIoUring,
            2 => TrialUnavailable::Disabled { level: self.value },
            3 => TrialUnavailable::Forbidden,
            4 => TrialUnavailable::NoSparseTable,
            5 => TrialUnavailable::Refused { source: source() },
            6 => TrialUnavailable::NoUdmabuf { source: source() },
            7 => TrialUnavailable::OldUdmabuf,
            _ => TrialUnavailable::NoHelper { how: "could not set itself up".to_owned() },
        }
    }
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((u32::from_ne_bytes(*first), rest))
}

fn long(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((u64::from_ne_bytes(*first), rest))
}

#[cfg(test)]
#[path = "protocol_test.rs"]
mod tests;
