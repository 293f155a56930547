//! What a driver asks for, and what it is answered: `struct virtio_mem_req` and `struct virtio_mem_resp` (virtio 1.3 §5.15.6).

use memory::GuestRange;
use memory::plugged::{BLOCK, Blocks};

/// Bytes of a request.
pub(super) const REQUEST: usize = 24;

/// A request. Ranges are whatever the driver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Plug(GuestRange),
    Unplug(GuestRange),
    UnplugAll,
    State(GuestRange),
}

/// What it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done (VIRTIO_MEM_RESP_ACK).
    Done,
    /// The guest would have more than it should (VIRTIO_MEM_RESP_NACK).
    No,
    /// Not now: Linux asks again, later and later (VIRTIO_MEM_RESP_BUSY).
    Busy,
    /// It makes no sense (VIRTIO_MEM_RESP_ERROR).
    Error,
    /// What the blocks are.
    State(Blocks),
}

impl Request {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REQUEST] = bytes.first_chunk()?;
        let [kind, kind_high, _, _, _, _, _, _, rest @ ..] = bytes;
        let (address, rest) = rest.split_first_chunk()?;
        let (blocks, _) = rest.split_first_chunk()?;
        let (start, size) = (u64::from_le_bytes(*address), u64::from(u16::from_le_bytes(*blocks)) * BLOCK);
        let range = start.checked_add(size).map(|_| GuestRange::new(start, size));
        match u16::from_le_bytes([*kind, *kind_high]) {
            0 => range.map(Self::Plug),
            1 => range.map(Self::Unplug),
            2 => Some(Self::UnplugAll),
            3 => range.map(Self::State),
            _ => None,
        }
    }
}

impl Answer {
    pub(super) fn to_bytes(self) -> [u8; 10] {
        let (kind, state) = match self {
            Self::Done => (0, 0),
            Self::No => (1, 0),
            Self::Busy => (2, 0),
            Self::Error => (3, 0),
            Self::State(Blocks::Plugged) => (0, 0),
            Self::State(Blocks::Unplugged) => (0, 1),
            Self::State(Blocks::Mixed) => (0, 2),
        };
        [kind, 0, 0, 0, 0, 0, 0, 0, state, 0]
    }
}
