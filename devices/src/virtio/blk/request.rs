//! What a chain asks of a disk (virtio 1.3 §5.2.6): a header, data, and a byte for the answer.

use memory::GuestRange;
use virtio_bindings::virtio_blk as abi;

use super::config::MOST_ZEROED;
use crate::disk::{Buffers, Operation, SECTOR};
use crate::virtio::queue::Segment;
use crate::virtio::{Chain, Queue, RingError};

/// Bytes of the header.
const HEADER: u64 = 16;

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    /// It failed, or makes no sense.
    Error,
    /// The device does not know such requests.
    Unsupported,
}

impl Status {
    /// As the driver reads it.
    pub(super) fn byte(self) -> u8 {
        (match self {
            Self::Ok => abi::VIRTIO_BLK_S_OK,
            Self::Error => abi::VIRTIO_BLK_S_IOERR,
            Self::Unsupported => abi::VIRTIO_BLK_S_UNSUPP,
        }) as u8
    }
}

/// What is to be done for a chain.
#[derive(Debug)]
pub(super) enum Request {
    /// Something for the disk.
    Disk(Operation),
    /// Its serial number.
    Serial,
    /// Nothing but this answer.
    Answer(Status),
}

impl Request {
    /// What `chain` of `queue` asks. What is written is durable before it is done, if `durable` says so.
    ///
    /// # Errors
    /// There is no place for an answer.
    pub(super) fn parse(chain: &Chain, queue: &Queue, durable: bool) -> Result<Self, RingError> {
        let mut reader = chain.reader();
        if chain.writable_bytes() == 0 {
            return Err(RingError::Request("request to a disk"));
        }
        // In between lies a priority that is no longer used.
        let header = (reader.array(), reader.array::<4>(), reader.array());
        let (Some(kind), Some(_), Some(sector)) = header else {
            return Ok(Self::Answer(Status::Error));
        };
        let (kind, sector) = (u32::from_le_bytes(kind), u64::from_le_bytes(sector));
        let offset = sector.checked_mul(SECTOR);
        let request = match kind {
            abi::VIRTIO_BLK_T_IN => {
                let data = part(chain.writable(), 0, chain.writable_bytes() - 1);
                transfer(queue, offset, data).map(|(offset, into)| Operation::Read { offset, into })
            }
            abi::VIRTIO_BLK_T_OUT => {
                let data = part(chain.readable(), HEADER, chain.readable_bytes() - HEADER);
                transfer(queue, offset, data).map(|(offset, from)| Operation::Write { offset, from, durable })
            }
            abi::VIRTIO_BLK_T_FLUSH => Some(Operation::Flush),
            abi::VIRTIO_BLK_T_DISCARD => range(chain).and_then(Range::discard),
            abi::VIRTIO_BLK_T_WRITE_ZEROES => range(chain).and_then(Range::zero),
            abi::VIRTIO_BLK_T_GET_ID => return Ok(Self::Serial),
            _ => return Ok(Self::Answer(Status::Unsupported)),
        };
        Ok(request.map_or(Self::Answer(Status::Error), Self::Disk))
    }
}

/// Where the answer goes: the last byte of the writable buffers.
pub(super) fn status_address(chain: &Chain) -> Option<u64> {
    let last = chain.writable().last()?;
    Some(last.address + u64::from(last.length.checked_sub(1)?))
}

fn transfer(queue: &Queue, offset: Option<u64>, data: Vec<GuestRange>) -> Option<(u64, Buffers)> {
    let buffers = Buffers::new(queue.ram(), data)?;
    let whole = buffers.bytes().is_multiple_of(SECTOR) && buffers.bytes() > 0;
    Some((offset?, buffers)).filter(|_| whole)
}

/// `length` bytes of the segments after the first `skip`.
fn part(segments: &[Segment], mut skip: u64, mut length: u64) -> Vec<GuestRange> {
    let mut ranges = Vec::with_capacity(segments.len());
    for segment in segments {
        let passed = skip.min(segment.length.into());
        let taken = (u64::from(segment.length) - passed).min(length);
        if taken > 0 {
            ranges.push(GuestRange::new(segment.address + passed, taken));
        }
        skip -= passed;
        length -= taken;
    }
    ranges
}

/// What a discard or a request for zeroes names (`virtio_blk_discard_write_zeroes`).
struct Range {
    sector: u64,
    sectors: u32,
    flags: u32,
}

/// The range of a request that has exactly one.
fn range(chain: &Chain) -> Option<Range> {
    let mut reader = chain.reader();
    let _header: [u8; HEADER as usize] = reader.array()?;
    let range = Range {
        sector: u64::from_le_bytes(reader.array()?),
        sectors: u32::from_le_bytes(reader.array()?),
        flags: u32::from_le_bytes(reader.array()?),
    };
    (reader.remaining() == 0).then_some(range)
}

impl Range {
    fn bytes(&self) -> Option<(u64, u64)> {
        Some((self.sector.checked_mul(SECTOR)?, u64::from(self.sectors) * SECTOR))
    }

    fn discard(self) -> Option<Operation> {
        let (offset, length) = self.bytes()?;
        (self.flags == 0).then_some(Operation::Discard { offset, length })
    }

    fn zero(self) -> Option<Operation> {
        let (offset, length) = self.bytes()?;
        let known = self.flags & !abi::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP == 0;
        let unmap = self.flags & abi::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0;
        (known && self.sectors <= MOST_ZEROED).then_some(Operation::WriteZeroes { offset, length, unmap })
    }
}

#[cfg(test)]
#[path = "request_test.rs"]
mod tests;
