//! What a driver asks for, and what it is answered: `struct virtio_iommu_req_*` (virtio 1.2 §5.13.6).

/// Bytes of the longest request's readable part, which a PROBE's is.
pub(super) const LONGEST: usize = 72;
/// Bytes of the tail, which ends the writable part.
pub(super) const TAIL: usize = 4;

const ATTACH: u8 = 1;
const DETACH: u8 = 2;
const MAP: u8 = 3;
const UNMAP: u8 = 4;
const PROBE: u8 = 5;

const MAP_READ: u32 = 1 << 0;
const MAP_WRITE: u32 = 1 << 1;

/// A request. Numbers are whatever the driver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Attach { domain: u32, endpoint: u32 },
    Detach { domain: u32, endpoint: u32 },
    Map { domain: u32, first: u64, last: u64, gpa: u64, read: bool, write: bool },
    Unmap { domain: u32, first: u64, last: u64 },
    Probe { endpoint: u32 },
}

/// How a request went (§5.13.6.2), if not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no such request (VIRTIO_IOMMU_S_UNSUPP), or it cannot be done here.
    Unsupported = 2,
    /// The host has failed (VIRTIO_IOMMU_S_DEVERR).
    Device = 3,
    /// It makes no sense (VIRTIO_IOMMU_S_INVAL).
    Invalid = 4,
    /// Addresses that cannot be had (VIRTIO_IOMMU_S_RANGE).
    Range = 5,
    /// There is no such endpoint or domain (VIRTIO_IOMMU_S_NOENT).
    Absent = 6,
    /// It cannot be pinned, or is too much (VIRTIO_IOMMU_S_NOMEM).
    NoMemory = 8,
}

/// The tail of an answer.
pub(super) fn tail(outcome: Result<(), Refused>) -> [u8; TAIL] {
    [outcome.map_or_else(|refused| refused as u8, |()| 0), 0, 0, 0]
}

impl Request {
    /// Reads one. Reserved bytes have to be 0 where a later version could give them a meaning that matters.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let (kind, rest) = bytes.split_first().ok_or(Refused::Invalid)?;
        let rest = rest.get(3..).ok_or(Refused::Invalid)?;
        let mut fields = Fields(rest);
        let request = match *kind {
            ATTACH => {
                let (domain, endpoint, flags) = (fields.word()?, fields.word()?, fields.word()?);
                // VIRTIO_IOMMU_ATTACH_F_BYPASS comes with VIRTIO_IOMMU_F_BYPASS_CONFIG.
                zero(flags)?;
                zero(fields.word()?)?;
                Self::Attach { domain, endpoint }
            }
            DETACH => Self::Detach { domain: fields.word()?, endpoint: fields.word()? },
            MAP => {
                let domain = fields.word()?;
                let (first, last, gpa) = (fields.long()?, fields.long()?, fields.long()?);
                let flags = fields.word()?;
                // VIRTIO_IOMMU_MAP_F_MMIO comes with VIRTIO_IOMMU_F_MMIO.
                zero(flags & !(MAP_READ | MAP_WRITE))?;
                let (read, write) = (flags & MAP_READ != 0, flags & MAP_WRITE != 0);
                if !read && !write {
                    return Err(Refused::Invalid);
                }
                Self::Map { domain, first, last, gpa, read, write }
            }
            UNMAP => Self::Unmap { domain: fields.word()?, first: fields.long()?, last: fields.long()? },
            PROBE => Self::Probe { endpoint: fields.word()? },
            _ => return Err(Refused::Unsupported),
        };
        Ok(request)
    }
}

fn zero(word: u32) -> Result<(), Refused> {
    if word == 0 { Ok(()) } else { Err(Refused::Invalid) }
}

/// What is left of a request.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Refused::Invalid)?;
        self.0 = rest;
        Ok(*field)
    }

    fn word(&mut self) -> Result<u32, Refused> {
        self.take().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Result<u64, Refused> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
#[path = "request_test.rs"]
mod tests;
