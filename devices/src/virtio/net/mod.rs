//! A network card (virtio 1.3 §5.1) whose cable is a [`Link`] of the host, usually a tap.
//!
//! ```text
//! Card        what all its queues share: the link, the MAC address, whether there is a cable
//! Pair        a thread for each pair of queues
//! Receiver      its receive queue               tap -> driver's buffers
//! Transmitter   its transmit queue              driver's buffers -> tap
//! Vhost       the kernel in place of pairs
//! control     a thread for the control queue    pairs of queues, offloads, MAC address
//! ```
//!
//! A link that is gone is a cable that was pulled: the driver is told, and nothing else happens.

mod control;
mod features;
mod mac;
mod pair;
mod receive;
mod served;
mod serving;
mod transmit;
mod vhost;

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;
use virtio_bindings::virtio_net::VIRTIO_NET_S_LINK_UP;

use super::{Activation, Active, DeviceType, Notifier, VirtioDevice, read_bytes};
use crate::rate::{Limits, RateLimiter};
use crate::sync::lock;
use crate::tap::{self, Link};
pub use mac::{MacAddress, NoMacAddress};
pub use served::wanted as served;
use serving::Serving;
pub use vhost::Vhost;

const NET: DeviceType = DeviceType { id: 1, pci_class: 0x02_0000 };
const QUEUE_SIZE: u16 = 256;
const CONTROL_SIZE: u16 = 64;

/// A network card.
pub struct Net {
    card: Arc<Card>,
    vhost: Option<Vhost>,
    offered: u64,
}

/// Who serves the queues of a card that its guest sends and receives with.
pub enum ServedBy {
    /// The kernel, which knows split rings alone.
    Kernel(Vhost),
    /// Threads of ours.
    Us {
        /// Whether packed rings (§2.8) are offered as well.
        packed: bool,
        /// How much the guest may receive and send.
        limits: NetLimits,
    },
}

/// Limits of a card, all its queues together. An operation is a frame as the link has it, up to 64 KiB where segmentation is
/// offloaded; its bytes are those behind the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetLimits {
    /// Of what the guest receives. What comes in faster waits in the link's queue, which drops what it has no room for.
    pub received: Limits,
    /// Of what the guest sends. What it has beyond that waits in its ring.
    pub sent: Limits,
}

impl NetLimits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.received.is_none() && self.sent.is_none()
    }
}

/// What all queues of a card share.
struct Card {
    link: Box<dyn Link>,
    /// The address it has after a reset.
    own: MacAddress,
    mac: Mutex<MacAddress>,
    /// The link is gone.
    lost: AtomicBool,
    received: Option<Arc<RateLimiter>>,
    sent: Option<Arc<RateLimiter>>,
}

impl Net {
    /// A card with this address on `link`, whose queues `served_by` serves. Without `offloads` all frames are whole and
    /// checksummed.
    pub fn new(link: Box<dyn Link>, own: MacAddress, offloads: bool, served_by: ServedBy) -> Self {
        let offered = features::offered(link.queues().len(), offloads, link.has_uso());
        let (vhost, packed, limits) = match served_by {
            ServedBy::Kernel(vhost) => (Some(vhost), 0, NetLimits::default()),
            ServedBy::Us { packed, limits } => (None, u64::from(packed) << VIRTIO_F_RING_PACKED, limits),
        };
        let limiter = |limits| RateLimiter::new(limits).map(Arc::new);
        let (received, sent) = (limiter(limits.received), limiter(limits.sent));
        let (mac, lost) = (Mutex::new(own), AtomicBool::new(false));
        let card = Card { link, own, mac, lost, received, sent };
        Self { card: Arc::new(card), vhost, offered: offered | packed }
    }
}

impl VirtioDevice for Net {
    fn kind(&self) -> DeviceType {
        NET
    }

    fn name(&self) -> String {
        format!("network card {}", self.card.link.name())
    }

    fn features(&self) -> u64 {
        self.offered
    }

    fn queue_sizes(&self) -> Vec<u16> {
        let mut sizes = vec![QUEUE_SIZE; self.card.link.queues().len() * 2];
        sizes.push(CONTROL_SIZE);
        sizes
    }

    /// `struct virtio_net_config` (§5.1.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let MacAddress([a, b, c, d, e, f]) = *lock(&self.card.mac);
        let status = if self.card.is_lost() { 0 } else { VIRTIO_NET_S_LINK_UP as u8 };
        let [pairs, pairs_high] = (self.card.link.queues().len() as u16).to_le_bytes();
        let [mtu, mtu_high] = self.card.link.mtu().to_le_bytes();
        read_bytes(&[a, b, c, d, e, f, status, 0, pairs, pairs_high, mtu, mtu_high], offset, data);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        let card = Arc::clone(&self.card);
        let features = driver.features;
        *lock(&card.mac) = card.own;
        if !card.is_lost() {
            let set = card.link.set_offloads(features::offloads(features));
            match set.and_then(|()| card.link.use_queues(1)) {
                Err(error) if tap::is_gone(&error) => card.lose(&driver.notifier),
                set => set?,
            }
        }
        let kernel = match &self.vhost {
            Some(vhost) if !card.is_lost() => {
                Some(vhost.prepare(&card, features, &driver.ram, &driver.notifier)?)
            }
            _ => None,
        };
        Ok(Box::new(Serving::start(card, driver, kernel)?))
    }
}

impl Card {
    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The link is gone: says so once, and tells the driver.
    fn lose(&self, notifier: &Notifier) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            let tap = self.link.name();
            tracing::warn!(
                tap,
                "the tap is gone: the guest goes on without this network until vmm is started anew"
            );
            notifier.config_changed();
        }
    }

    fn dropped(&self, what: &str) {
        tracing::debug!(tap = self.link.name(), "dropped {what}");
    }

    fn set_mac(&self, mac: [u8; 6]) {
        *lock(&self.mac) = MacAddress(mac);
    }

    /// Has frames come on so many pairs of queues; whether they do.
    fn use_pairs(&self, pairs: usize) -> bool {
        (1..=self.link.queues().len()).contains(&pairs) && self.is_done("queues", self.link.use_queues(pairs))
    }

    /// Has frames come as the driver takes them; whether they do.
    fn set_offloads(&self, features: u64) -> bool {
        self.is_done("offloads", self.link.set_offloads(features::offloads(features)))
    }

    fn is_done(&self, what: &str, result: io::Result<()>) -> bool {
        if let Err(error) = &result {
            tracing::warn!(tap = self.link.name(), %error, "{what} cannot be set as the guest wants");
        }
        result.is_ok()
    }
}

#[cfg(test)]
#[path = "net_test.rs"]
mod tests;
