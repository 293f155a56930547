//! The configuration of a block device (virtio 1.3 §5.2.4).

use crate::disk::{SECTOR, Topology};

/// Offset of `writeback`, which the driver may write.
pub(super) const WRITEBACK: u64 = 32;
/// Sectors that one discard may name, and one request for zeroes, which may have to be written.
const MOST_DISCARDED: u32 = 1 << 22;
pub(super) const MOST_ZEROED: u32 = 1 << 18;
/// Ranges that such a request may name.
const RANGES: u32 = 1;

/// What the driver is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) topology: Topology,
    /// Buffers a request may have.
    pub(super) segments: u32,
    pub(super) writeback: bool,
    pub(super) queues: u16,
    pub(super) discards: bool,
}

impl Config {
    /// As the driver reads it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Topology { logical, physical, minimum, optimal, discard } = self.topology;
        let blocks = |bytes: u32| bytes / logical.max(1);
        let sectors = |bytes: u32| bytes / SECTOR as u32;
        let mut bytes = Vec::with_capacity(60);
        bytes.extend((self.size / SECTOR).to_le_bytes());
        // size_max is not offered: a buffer may be of any size.
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(self.segments.to_le_bytes());
        // Cylinders, heads and sectors are not offered.
        bytes.extend([0; 4]);
        bytes.extend(logical.to_le_bytes());
        bytes.push(blocks(physical).max(1).ilog2() as u8);
        // The first block begins where a physical one does.
        bytes.push(0);
        bytes.extend(u16::try_from(blocks(minimum)).unwrap_or(0).to_le_bytes());
        bytes.extend(blocks(optimal).to_le_bytes());
        bytes.extend([u8::from(self.writeback), 0]);
        bytes.extend(self.queues.to_le_bytes());
        let discards = if self.discards { [MOST_DISCARDED, RANGES, sectors(discard)] } else { [0; 3] };
        let zeroes = [MOST_ZEROED, RANGES, u32::from(self.discards)];
        for value in discards.into_iter().chain(zeroes) {
            // The last is a byte and three of padding.
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
        bytes[offset..offset + N].try_into().unwrap()
    }

    #[test]
    fn every_field_is_where_the_specification_has_it() {
        let topology =
            Topology { logical: 4096, physical: 16384, minimum: 8192, optimal: 65536, discard: 32768 };
        let config =
            Config { size: 1 << 40, topology, segments: 254, writeback: true, queues: 3, discards: true };
        let bytes = config.bytes();
        assert_eq!(bytes.len(), 60);
        assert_eq!(u64::from_le_bytes(at(&bytes, 0)), 1 << 31);
        assert_eq!(u32::from_le_bytes(at(&bytes, 12)), 254);
        assert_eq!(u32::from_le_bytes(at(&bytes, 20)), 4096);
        assert_eq!((bytes[24], bytes[25]), (2, 0));
        assert_eq!(u16::from_le_bytes(at(&bytes, 26)), 2);
        assert_eq!(u32::from_le_bytes(at(&bytes, 28)), 16);
        assert_eq!(bytes[WRITEBACK as usize], 1);
        assert_eq!(u16::from_le_bytes(at(&bytes, 34)), 3);
        assert_eq!(u32::from_le_bytes(at(&bytes, 36)), MOST_DISCARDED);
        assert_eq!(u32::from_le_bytes(at(&bytes, 44)), 64);
        assert_eq!(u32::from_le_bytes(at(&bytes, 48)), MOST_ZEROED);
        assert_eq!((bytes[56], &bytes[57..60]), (1, &[0, 0, 0][..]));
    }
}
