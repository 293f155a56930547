//! A shared directory (virtio-fs, virtio 1.3 §5.11), which a daemon such as virtiofsd serves. The guest mounts it by its tag.

use std::path::PathBuf;

use super::DeviceType;
use super::vhost_user::{Config, PATIENCE, Wanted};

const FILE_SYSTEM: DeviceType = DeviceType { id: 26, pci_class: 0x01_8000 };
/// Bytes of a tag (§5.11.4).
pub const TAG: usize = 36;
/// Request queues that a device may have.
pub const MOST_QUEUES: u16 = 64;
/// The size of queues where nothing is said: what Linux and virtiofsd make the most of.
pub const USUAL_SIZE: u16 = 1024;

/// What a device for the directory that the daemon at `socket` serves is like.
pub fn wanted(socket: PathBuf, tag: &str, queues: u16, queue_size: u16) -> Wanted {
    // `struct virtio_fs_config`: the tag, padded with zeros, and the number of request queues.
    let mut config: Vec<u8> = tag.bytes().chain(std::iter::repeat(0)).take(TAG).collect();
    config.extend(u32::from(queues).to_le_bytes());
    Wanted {
        name: format!("shared directory {tag}"),
        socket,
        device: FILE_SYSTEM,
        features: 0,
        ours: 0,
        // The first is for what must not wait behind requests (§5.11.2).
        queue_sizes: vec![queue_size; usize::from(queues) + 1],
        config: Config::Ours(config),
        patience: PATIENCE,
    }
}

#[cfg(test)]
#[path = "fs_test.rs"]
mod tests;
