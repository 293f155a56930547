//! A memory balloon (virtio 1.3 §5.5): the driver takes pages from its guest and names them to the device, which gives them back to
//! the host.
//!
//! ```text
//! Balloon::resize -> num_pages -> the driver inflates: page numbers     pages.rs     holes in guest memory
//!                                 the driver deflates: page numbers                  nothing: a page comes with its first use
//!                    actual   <- the driver says how many it has given
//!                                 free page reporting: buffers that are free          holes in guest memory
//!                                 statistics, in a buffer that is held until the next are due       statistics.rs
//! ```
//!
//! One thread ([`server`]) serves all queues. Whatever is named is looked at first: what is not RAM stops the device, and no
//! request is larger than what is done in a moment. The machine must not have devices that reach its memory by themselves
//! (VFIO): pages that those may write to must stay.

mod abi;
mod pages;
mod server;
mod statistics;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory::PAGE_SIZE;

use super::worker::OneThread;
use super::{Activation, Active, DeviceType, Notifier, RING_FEATURES, VirtioDevice, read_bytes};
use crate::sync::lock;
use server::{QUEUE_SIZES, Server};
pub use statistics::{Statistic, Statistics};

const BALLOON: DeviceType = DeviceType { id: 5, pci_class: 0x00_ff00 };
/// Offset of the configuration's field that the driver writes (§5.5.4, `actual`).
const ACTUAL: u64 = 4;

/// What a balloon is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalloonOptions {
    /// Bytes that the guest is asked for at first.
    pub size: u64,
    /// Whether the guest tells of pages that are free.
    pub free_page_reporting: bool,
    /// Whether the guest may take pages back when it runs out of memory.
    pub deflate_on_oom: bool,
    /// How often the guest is asked for statistics; `None` for never.
    pub statistics: Option<Duration>,
}

/// What a balloon is just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalloonState {
    /// Bytes that the guest was asked for.
    pub target: u64,
    /// Bytes that it says to have given.
    pub actual: u64,
    /// What it said of its memory last.
    pub statistics: Option<Statistics>,
}

/// A balloon.
pub struct Balloon {
    options: BalloonOptions,
    shared: Arc<Shared>,
}

/// What its thread, its driver and its operator know of it.
#[derive(Default)]
struct Shared {
    target: AtomicU64,
    actual: AtomicU64,
    statistics: Mutex<Option<Statistics>>,
    /// The way to the driver, while there is one.
    notifier: Mutex<Option<Notifier>>,
}

impl Balloon {
    /// A balloon that nobody has blown up yet.
    pub fn new(options: BalloonOptions) -> Self {
        let shared = Shared { target: AtomicU64::new(options.size), ..Shared::default() };
        Self { options, shared: Arc::new(shared) }
    }

    /// Asks the guest for `size` bytes, whole pages, in all.
    pub fn resize(&self, size: u64) {
        let before = self.shared.target.swap(size, Ordering::AcqRel);
        if before != size
            && let Some(notifier) = &*lock(&self.shared.notifier)
        {
            notifier.config_changed();
        }
    }

    /// What it is just now.
    pub fn state(&self) -> BalloonState {
        BalloonState {
            target: self.shared.target.load(Ordering::Acquire),
            actual: self.shared.actual.load(Ordering::Acquire),
            statistics: lock(&self.shared.statistics).clone(),
        }
    }
}

impl VirtioDevice for Balloon {
    fn kind(&self) -> DeviceType {
        BALLOON
    }

    fn name(&self) -> String {
        "balloon".to_owned()
    }

    fn features(&self) -> u64 {
        let offers = [
            (self.options.statistics.is_some(), abi::STATISTICS),
            (self.options.deflate_on_oom, abi::DEFLATE_ON_OOM),
            (self.options.free_page_reporting, abi::FREE_PAGES),
        ];
        offers.iter().filter(|(offered, _)| *offered).fold(RING_FEATURES, |all, (_, bit)| all | bit)
    }

    fn queue_sizes(&self) -> Vec<u16> {
        QUEUE_SIZES.to_vec()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let pages = |bytes: &AtomicU64| {
            let pages = bytes.load(Ordering::Acquire) / PAGE_SIZE;
            u32::try_from(pages).unwrap_or(u32::MAX).to_le_bytes()
        };
        let config = [pages(&self.shared.target), pages(&self.shared.actual)].concat();
        read_bytes(&config, offset, data);
    }

    fn write_config(&self, offset: u64, data: &[u8]) {
        // All else is read-only.
        if let (ACTUAL, Ok(pages)) = (offset, data.try_into()) {
            let bytes = u64::from(u32::from_le_bytes(pages)) * PAGE_SIZE;
            self.shared.actual.store(bytes, Ordering::Release);
        }
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        // A driver that begins has given nothing: what one before it had given is in use again.
        self.shared.actual.store(0, Ordering::Release);
        *lock(&self.shared.statistics) = None;
        *lock(&self.shared.notifier) = Some(driver.notifier.clone());
        let server =
            Server::new(driver.features, self.options.statistics, self.shared.clone(), driver.notifier)?;
        Ok(Box::new(OneThread::start(server, driver.queues)?))
    }
}

#[cfg(test)]
#[path = "balloon_test.rs"]
mod tests;
