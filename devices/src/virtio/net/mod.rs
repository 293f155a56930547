//! A network card (virtio 1.3 §5.1) whose cable is a [`Link`] of the host, usually a tap.
//!
//! ```text
//! Card        what all its queues share: the link, the MAC address, whether there is a cable
//! Receiver    a thread for each receive queue       tap -> driver's buffers
//! Transmitter a thread for each transmit queue      driver's buffers -> tap
//! control     a thread for the control queue        pairs of queues, offloads, MAC address
//! Vhost       the kernel in place of both of the first
//! ```
//!
//! A link that is gone is a cable that was pulled: the driver is told, and nothing else happens.

mod control;
mod features;
mod mac;
mod receive;
mod served;
mod transmit;
mod vhost;

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_S_LINK_UP};

use super::worker::{QueueServer, Worker};
use super::{Activation, Active, DeviceType, Notifier, PerQueue, Queue, VirtioDevice, read_bytes};
use crate::sync::lock;
use crate::tap::{self, Link};
pub use mac::{MacAddress, NoMacAddress};
use receive::Receiver;
pub use served::wanted as served;
use transmit::Transmitter;
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
    },
}

/// What all queues of a card share.
struct Card {
    link: Box<dyn Link>,
    /// The address it has after a reset.
    own: MacAddress,
    mac: Mutex<MacAddress>,
    /// The link is gone.
    lost: AtomicBool,
}

impl Net {
    /// A card with this address on `link`, whose queues `served_by` serves. Without `offloads` all frames are whole and
    /// checksummed.
    pub fn new(link: Box<dyn Link>, mac: MacAddress, offloads: bool, served_by: ServedBy) -> Self {
        let offered = features::offered(link.queues().len(), offloads, link.has_uso());
        let (vhost, packed) = match served_by {
            ServedBy::Kernel(vhost) => (Some(vhost), 0),
            ServedBy::Us { packed } => (None, u64::from(packed) << VIRTIO_F_RING_PACKED),
        };
        let card = Card { link, own: mac, mac: Mutex::new(mac), lost: AtomicBool::new(false) };
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
        PerQueue::start(driver.queues, move |queue| Serving::start(&card, features, kernel.as_ref(), queue))
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

/// What serves a queue; dropping it stops that.
enum Serving {
    Receive { _worker: Worker<Receiver> },
    Transmit { _worker: Worker<Transmitter> },
    Control { _worker: Worker<QueueServer> },
    Kernel { _ring: vhost::Ring },
}

impl Serving {
    fn start(
        card: &Arc<Card>,
        features: u64,
        kernel: Option<&vhost::Prepared>,
        queue: Queue,
    ) -> io::Result<Self> {
        let card = Arc::clone(card);
        let index = queue.index();
        if index >= features::control_queue(features, card.link.queues().len()) {
            let answer = move |chain: &_| control::answer(&card, features, chain);
            return Ok(Self::Control { _worker: QueueServer::start("virtio-net", queue, answer)? });
        }
        if let Some(kernel) = kernel {
            return Ok(Self::Kernel { _ring: kernel.serve(&card, &queue)? });
        }
        let pair = usize::from(index / 2);
        if index.is_multiple_of(2) {
            let mergeable = features::has(features, VIRTIO_NET_F_MRG_RXBUF);
            let receiver = Receiver::new(card, pair, queue, mergeable, features::takes_large(features));
            Ok(Self::Receive { _worker: Worker::start("virtio-net-rx", receiver)? })
        } else {
            Ok(Self::Transmit {
                _worker: Worker::start("virtio-net-tx", Transmitter::new(card, pair, queue))?,
            })
        }
    }
}

#[cfg(test)]
#[path = "net_test.rs"]
mod tests;
