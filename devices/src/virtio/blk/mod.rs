//! A block device (virtio 1.3 §5.2): a [`Disk`] for a guest. Each queue has a thread and an engine of its own; what they do
//! together is kept within limits, if there are any.

mod config;
mod counts;
mod latency;
mod request;
mod served;
mod server;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use virtio_bindings::virtio_blk as abi;
use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;

use super::{
    Activation, Active, DeviceType, Notifier, PerQueue, RING_FEATURES, VirtioDevice, Worker, read_bytes,
};
use crate::disk::{Disk, GrowError};
use crate::rate::{Limits, RateLimiter};
use crate::sync::lock;
use config::Config;
use counts::Counters;
pub use counts::DiskCounts;
pub use latency::Latency;
pub use served::wanted as served;
use server::{Server, Shared};

const BLOCK: DeviceType = DeviceType { id: 2, pci_class: 0x01_8000 };
/// Bytes of a serial number (§5.2.6).
pub const SERIAL: usize = abi::VIRTIO_BLK_ID_BYTES as usize;
/// Queues that a device may have.
pub const MOST_QUEUES: u16 = 64;
const QUEUE_SIZE: u16 = 256;

/// What a guest sees of a disk, apart from its content.
#[derive(Clone, Debug)]
pub struct BlkOptions {
    /// What the guest reads as the disk's serial number, [`SERIAL`] bytes at the most.
    pub serial: String,
    /// How many queues it has, 1 to [`MOST_QUEUES`].
    pub queues: u16,
    /// Whether it offers packed rings (§2.8) as well.
    pub packed: bool,
    /// How much it may do.
    pub limits: Limits,
}

/// A block device.
pub struct Blk {
    disk: Arc<Disk>,
    options: BlkOptions,
    limiter: Option<Arc<RateLimiter>>,
    /// Whether what was written may be in caches until the driver flushes (§5.2.5, `writeback`).
    writeback: Arc<AtomicBool>,
    counters: Arc<Counters>,
    /// The way to the driver, while there is one.
    notifier: Mutex<Option<Notifier>>,
}

impl Blk {
    /// A device for `disk`.
    pub fn new(disk: Arc<Disk>, options: BlkOptions) -> Self {
        let limiter = RateLimiter::new(options.limits).map(Arc::new);
        let writeback = Arc::new(AtomicBool::new(true));
        Self { disk, options, limiter, writeback, counters: Arc::default(), notifier: Mutex::default() }
    }

    /// The disk behind it.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// What it has done since it was made.
    pub fn counts(&self) -> DiskCounts {
        self.counters.counts()
    }

    /// Makes the disk larger, and tells the driver.
    ///
    /// # Errors
    /// Why it stays as it is.
    pub fn grow(&self, size: u64) -> Result<(), GrowError> {
        let before = self.disk.size();
        self.disk.grow(size)?;
        if self.disk.size() != before
            && let Some(notifier) = &*lock(&self.notifier)
        {
            notifier.config_changed();
        }
        Ok(())
    }

    fn queues(&self) -> u16 {
        self.options.queues.clamp(1, MOST_QUEUES)
    }

    fn config(&self) -> Config {
        Config {
            size: self.disk.size(),
            topology: self.disk.topology(),
            segments: u32::from(QUEUE_SIZE) - 2,
            writeback: self.writeback.load(Ordering::Relaxed),
            queues: self.queues(),
            discards: self.disk.can_discard(),
        }
    }
}

impl VirtioDevice for Blk {
    fn kind(&self) -> DeviceType {
        BLOCK
    }

    fn name(&self) -> String {
        let path = self.disk.path();
        format!("disk {}", path.file_name().unwrap_or(path.as_os_str()).display())
    }

    fn features(&self) -> u64 {
        let always = [
            abi::VIRTIO_BLK_F_SEG_MAX,
            abi::VIRTIO_BLK_F_BLK_SIZE,
            abi::VIRTIO_BLK_F_TOPOLOGY,
            abi::VIRTIO_BLK_F_FLUSH,
            abi::VIRTIO_BLK_F_CONFIG_WCE,
            abi::VIRTIO_BLK_F_MQ,
        ];
        let kind: &[u32] = match (self.disk.is_read_only(), self.disk.can_discard()) {
            (true, _) => &[abi::VIRTIO_BLK_F_RO],
            (false, true) => &[abi::VIRTIO_BLK_F_WRITE_ZEROES, abi::VIRTIO_BLK_F_DISCARD],
            (false, false) => &[abi::VIRTIO_BLK_F_WRITE_ZEROES],
        };
        let packed: &[u32] = if self.options.packed { &[VIRTIO_F_RING_PACKED] } else { &[] };
        always.iter().chain(kind).chain(packed).fold(RING_FEATURES, |all, bit| all | 1 << bit)
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; self.queues().into()]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.config().bytes(), offset, data);
    }

    fn write_config(&self, offset: u64, data: &[u8]) {
        // All else is read-only.
        if let (config::WRITEBACK, [value]) = (offset, data) {
            self.writeback.store(value & 1 != 0, Ordering::Relaxed);
        }
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        let accepted = |bit: u32| driver.features & 1 << bit != 0;
        // A driver that cannot flush must not need to; one that chooses has not done so yet (§5.2.6.2).
        if !accepted(abi::VIRTIO_BLK_F_CONFIG_WCE) {
            self.writeback.store(accepted(abi::VIRTIO_BLK_F_FLUSH), Ordering::Relaxed);
        }
        let shared = Shared {
            disk: Arc::clone(&self.disk),
            serial: self.options.serial.clone(),
            limiter: self.limiter.clone(),
            writeback: Arc::clone(&self.writeback),
            counters: Arc::clone(&self.counters),
        };
        *lock(&self.notifier) = Some(driver.notifier);
        PerQueue::start(driver.queues, move |queue| {
            let name = format!("virtio-blk{}", queue.index());
            Worker::start_with(&name, Server::new(queue, shared.clone())?, Server::interrupted)
        })
    }
}

#[cfg(test)]
#[path = "blk_test.rs"]
mod tests;
