//! A card whose queues are served by the host's kernel (Linux's drivers/vhost/net.c): frames go between rings and tap without
//! a thread of ours.
//!
//! # Unsafe
//!
//! The one ioctl that is vhost-net's own.
#![expect(unsafe_code, reason = "an ioctl of vhost-net")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use memory::GuestRam;
use vhost::vhost_kern::vhost_binding::{VHOST_NET_SET_BACKEND, vhost_vring_file};
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::ioctl_with_ref;

use super::Card;
use crate::tap::{LinkMonitor, TapQueue};
use crate::virtio::vhost::{Driver, Errors, Kernel, Node, VhostError};
use crate::virtio::worker::Worker;
use crate::virtio::{Notifier, Queue, RaisedOutside};

/// The kernel's end of a card: a /dev/vhost-net for each pair of queues.
#[derive(Debug)]
pub struct Vhost {
    pairs: Vec<Node>,
}

impl Vhost {
    /// Opens it for so many pairs of queues.
    ///
    /// # Errors
    /// There is none, it is not ours, or it is of before virtio 1.0.
    pub fn open(pairs: usize) -> Result<Self, VhostError> {
        let open = |_| Node::open(Driver::Net, 1 << VIRTIO_NET_F_MRG_RXBUF);
        Ok(Self { pairs: (0..pairs).map(open).collect::<Result<_, _>>()? })
    }

    /// Makes it ready for a driver that accepted `features`, whose first queues those of the pairs are.
    pub(super) fn prepare(
        &self,
        card: &Arc<Card>,
        features: u64,
        ram: &Arc<GuestRam>,
        notifier: &Notifier,
    ) -> io::Result<Prepared> {
        let prepare = |node: &Node| node.prepare(features, ram);
        let pairs = self.pairs.iter().map(prepare).collect::<io::Result<Vec<_>>>()?;
        let (watched, errors) = Errors::new(pairs.len() * 2, notifier)?;
        let links = LinkMonitor::new()?;
        let watch = Watch { card: Arc::clone(card), errors: watched, links, notifier: notifier.clone() };
        Ok(Prepared { pairs, errors, _watch: Worker::start("virtio-net-link", watch)? })
    }
}

/// `VHOST_NET_SET_BACKEND`: has a ring served, with frames going to and coming from `tap`; or, with `None`, not any more:
/// nothing of it is touched when this returns.
fn set_backend(pair: &Kernel, ring: usize, tap: Option<&File>) -> io::Result<()> {
    let backend = vhost_vring_file { index: ring as u32, fd: tap.map_or(-1, AsRawFd::as_raw_fd) };
    // SAFETY: the kernel reads one vhost_vring_file.
    let done = unsafe { ioctl_with_ref(pair, VHOST_NET_SET_BACKEND(), &backend) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// All pairs, for a driver.
pub(super) struct Prepared {
    pairs: Vec<Arc<Kernel>>,
    /// Signalled by the kernel when a ring makes no sense, by the queue's number.
    errors: Vec<EventFd>,
    _watch: Worker<Watch>,
}

/// A ring that the kernel serves until this is dropped.
pub(super) struct Ring {
    pair: Arc<Kernel>,
    /// 0 is the one for receiving.
    ring: usize,
    _raised: RaisedOutside,
}

impl Prepared {
    /// Has the kernel serve a queue of the card.
    pub(super) fn serve(&self, card: &Card, queue: &Queue) -> io::Result<Ring> {
        let index = usize::from(queue.index());
        let (number, ring) = (index / 2, index % 2);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let pair = self.pairs.get(number).ok_or_else(missing)?;
        let error = self.errors.get(index).ok_or_else(missing)?;
        let tap = card.link.queues().get(number).ok_or_else(missing)?;
        let raised = pair.set_ring(ring, queue, error, card.link.name())?;
        set_backend(pair, ring, Some(tap.file()))?;
        // Chains may have been made available before anybody listened.
        queue.come_back();
        Ok(Ring { pair: Arc::clone(pair), ring, _raised: raised })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Err(error) = set_backend(&self.pair, self.ring, None) {
            tracing::error!(ring = self.ring, %error, "the kernel does not let go of a ring");
        }
    }
}

/// Watches what the kernel does not do: say that a ring is broken, or that a tap is gone.
struct Watch {
    card: Arc<Card>,
    errors: Errors,
    links: LinkMonitor,
    notifier: Notifier,
}

/// What the event of the monitor carries; those of rings carry their queue's number.
const LINKS: u32 = u32::MAX - 1;

impl MutEventSubscriber for Watch {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.data() != LINKS {
            return self.errors.process(events, ops);
        }
        self.links.take();
        if self.card.link.queues().iter().any(TapQueue::is_gone) {
            self.card.lose(&self.notifier);
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        self.errors.init(ops);
        if let Err(error) = ops.add(Events::with_data(&self.links, LINKS, EventSet::IN)) {
            self.notifier.broken(&error);
        }
    }
}
