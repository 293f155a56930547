//! What a virtio device is, apart from its transport.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use memory::GuestRam;
use virtio_bindings::virtio_config::VIRTIO_F_RING_RESET;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::interrupts::Notifier;
use super::queue::Queue;

/// What [`Queue`] does for every device that takes its chains from it.
pub const RING_FEATURES: u64 =
    1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_F_RING_RESET;

/// A kind of device (virtio 1.3 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceType {
    /// Virtio device ID.
    pub id: u16,
    /// Class, subclass and interface of its PCI function.
    pub pci_class: u32,
}

/// A device, for as long as the machine lives. Methods but [`VirtioDevice::activate`] are called from vCPU threads at any
/// time, and must not wait.
pub trait VirtioDevice: Send + Sync {
    /// Its kind.
    fn kind(&self) -> DeviceType;
    /// What messages call it, such as "disk root.qcow2".
    fn name(&self) -> String;
    /// What it offers: bits of its own, and [`RING_FEATURES`] if it takes its chains from [`Queue`].
    fn features(&self) -> u64;
    /// The largest size of each queue it has, powers of two.
    fn queue_sizes(&self) -> Vec<u16>;
    /// Reads its configuration; what lies beyond reads as 0.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Writes its configuration.
    fn write_config(&self, _offset: u64, _data: &[u8]) {}
    /// The driver is ready. Serves its queues until the result is dropped, which returns when nothing of the driver's
    /// memory is touched any more. Called by the vCPU thread that set DRIVER_OK, never while it is active already.
    ///
    /// # Errors
    /// What the host lacks for it; the driver is told that the device needs a reset.
    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>>;
}

/// What a driver has set up.
pub struct Activation {
    /// The features it accepted.
    pub features: u64,
    /// The queues it enabled.
    pub queues: Vec<Queue>,
    /// The way to tell it something.
    pub notifier: Notifier,
    /// Guest memory.
    pub ram: Arc<GuestRam>,
}

/// A device that serves its driver. Dropping it stops that.
pub trait Active: Send {
    /// Stops serving a queue (VIRTIO_F_RING_RESET). Returns when nothing of it is touched any more.
    fn stop_queue(&mut self, index: u16);
    /// Serves a queue that the driver enabled, again or late.
    ///
    /// # Errors
    /// What the host lacks for it.
    fn start_queue(&mut self, queue: Queue) -> io::Result<()>;
}

/// An active device whose queues are served each on its own, by what `start` makes of them.
pub struct PerQueue<S, W> {
    start: S,
    workers: BTreeMap<u16, W>,
}

impl<S: Fn(Queue) -> io::Result<W> + Send + 'static, W: Send + 'static> PerQueue<S, W> {
    /// Starts serving `queues`.
    ///
    /// # Errors
    /// The first of `start`; what was started is stopped.
    pub fn start(queues: Vec<Queue>, start: S) -> io::Result<Box<dyn Active>> {
        let mut active = Self { start, workers: BTreeMap::new() };
        queues.into_iter().try_for_each(|queue| active.start_queue(queue))?;
        Ok(Box::new(active))
    }
}

impl<S: Fn(Queue) -> io::Result<W> + Send, W: Send> Active for PerQueue<S, W> {
    fn stop_queue(&mut self, index: u16) {
        self.workers.remove(&index);
    }

    fn start_queue(&mut self, queue: Queue) -> io::Result<()> {
        let index = queue.index();
        self.workers.insert(index, (self.start)(queue)?);
        Ok(())
    }
}

/// Reads from a device's configuration as `bytes` have it.
pub fn read_bytes(bytes: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let from = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
    data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
