//! A block device that a vhost-user daemon serves: it says how large the disk is and what it can do.

use std::path::PathBuf;

use virtio_bindings::virtio_blk as abi;

use super::{BLOCK, QUEUE_SIZE};
use crate::virtio::vhost_user::{Config, PATIENCE, Wanted};

/// What a daemon may offer, of what needs nothing more than its queues.
const FEATURES: [u32; 10] = [
    abi::VIRTIO_BLK_F_SIZE_MAX,
    abi::VIRTIO_BLK_F_SEG_MAX,
    abi::VIRTIO_BLK_F_GEOMETRY,
    abi::VIRTIO_BLK_F_RO,
    abi::VIRTIO_BLK_F_BLK_SIZE,
    abi::VIRTIO_BLK_F_FLUSH,
    abi::VIRTIO_BLK_F_TOPOLOGY,
    abi::VIRTIO_BLK_F_MQ,
    abi::VIRTIO_BLK_F_DISCARD,
    abi::VIRTIO_BLK_F_WRITE_ZEROES,
];
/// Bytes of the configuration that these features are about (`struct virtio_blk_config`).
const SIZE: u32 = 60;
/// Where in it the size of a block is, and the number of queues.
const BLOCK_SIZE: std::ops::Range<usize> = 20..24;
const QUEUES: std::ops::Range<usize> = 34..36;
/// Sectors of the largest disk whose bytes can be counted.
const MOST_SECTORS: u64 = i64::MAX as u64 / 512;

/// What a disk that the daemon at `socket` serves is like.
pub fn wanted(socket: PathBuf, queues: u16) -> Wanted {
    let file = socket.file_name().unwrap_or(socket.as_os_str()).display();
    Wanted {
        name: format!("disk at {file}"),
        device: BLOCK,
        features: FEATURES.iter().fold(0, |all, bit| all | 1 << bit),
        ours: 0,
        queue_sizes: vec![QUEUE_SIZE; queues.into()],
        config: Config::Daemons { size: SIZE, settle },
        patience: PATIENCE,
        socket,
    }
}

/// Looks at what the daemon says, and puts in what it cannot know.
fn settle(config: &mut [u8], queues: u16) -> Result<(), &'static str> {
    let sectors = config.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if sectors > MOST_SECTORS {
        return Err("its size cannot be counted in bytes");
    }
    let block = config.get(BLOCK_SIZE).and_then(|bytes| bytes.first_chunk());
    let block = block.map_or(0, |bytes| u32::from_le_bytes(*bytes));
    // 0 where the daemon does not say.
    if block != 0 && (block < 512 || !block.is_power_of_two()) {
        return Err("its blocks are not of a power of two of bytes, 512 or more");
    }
    config.get_mut(QUEUES).into_iter().for_each(|place| place.copy_from_slice(&queues.to_le_bytes()));
    Ok(())
}

#[cfg(test)]
#[path = "served_test.rs"]
mod tests;
