//! A card whose queues are served by the host's kernel (Linux's drivers/vhost/net.c): frames go between rings and tap without
//! a thread of ours. A doorbell wakes the kernel's worker, which raises the queue's vector itself.
//!
//! The kernel takes the rings at addresses of this process and checks no more than that these are its own. So each ring is
//! found to lie in one piece of guest memory before it is handed over.
//!
//! # Unsafe
//!
//! The one ioctl that is vhost-net's own.
#![expect(unsafe_code, reason = "an ioctl of vhost-net")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use memory::GuestRam;
use miette::Diagnostic;
use thiserror::Error;
use vhost::vhost_kern::VhostKernBackend;
use vhost::vhost_kern::vhost_binding::{VHOST_NET_SET_BACKEND, vhost_vring_file};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::ioctl::ioctl_with_ref;

use super::Card;
use crate::tap::{LinkMonitor, TapQueue};
use crate::virtio::worker::Worker;
use crate::virtio::{Notifier, Queue, RaisedOutside};

const NODE: &str = "/dev/vhost-net";

/// What is in the way of the kernel's help.
#[derive(Debug, Error, Diagnostic)]
pub enum VhostError {
    /// No driver.
    #[error("there is no {NODE}")]
    #[diagnostic(help("load the driver: modprobe vhost_net"))]
    Missing(#[source] io::Error),
    /// Not for us.
    #[error("no permission to open {NODE}")]
    #[diagnostic(help(
        "it belongs to a group, usually kvm: usermod -aG kvm $USER, or as root: chmod 666 {NODE}"
    ))]
    Permission(#[source] io::Error),
    /// Anything else.
    #[error("{NODE} cannot be used")]
    #[diagnostic(help("`dmesg` may tell why; `vhost=off` does without it"))]
    Unusable(#[source] io::Error),
}

/// A pair of queues that ran into something.
#[derive(Debug, Error)]
#[error("the kernel cannot serve queue {0}: its ring or a buffer in it makes no sense")]
struct RingBroken(u16);

/// The kernel's end of a card: a /dev/vhost-net for each pair of queues.
#[derive(Debug)]
pub struct Vhost {
    pairs: Vec<Arc<File>>,
}

impl Vhost {
    /// Opens it for so many pairs of queues.
    ///
    /// # Errors
    /// There is none, it is not ours, or it is of before virtio 1.0.
    pub fn open(pairs: usize) -> Result<Self, VhostError> {
        let open = |_| {
            let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(NODE);
            let file = file.map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => VhostError::Missing(error),
                Some(libc::EACCES | libc::EPERM) => VhostError::Permission(error),
                _ => VhostError::Unusable(error),
            })?;
            let pair = Pair { file: Arc::new(file), memory: Arc::default(), _ram: None };
            pair.set_owner().map_err(|error| VhostError::Unusable(os_error(error)))?;
            let features = pair.get_features().map_err(|error| VhostError::Unusable(os_error(error)))?;
            if features >> VIRTIO_F_VERSION_1 & features >> VIRTIO_NET_F_MRG_RXBUF & 1 == 0 {
                return Err(VhostError::Unusable(io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
            }
            Ok(pair.file)
        };
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
        let memory = Arc::new(ram.guest_memory().clone());
        let mut pairs = Vec::new();
        for file in &self.pairs {
            let pair =
                Pair { file: Arc::clone(file), memory: Arc::clone(&memory), _ram: Some(Arc::clone(ram)) };
            let known = pair.get_features().map_err(os_error)?;
            pair.set_features(features & known).map_err(os_error)?;
            pair.set_mem_table(&regions(ram)).map_err(os_error)?;
            pairs.push(Arc::new(pair));
        }
        let eventfd = |_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        let errors = (0..pairs.len() * 2).map(eventfd).collect::<io::Result<Vec<_>>>()?;
        let watched = errors.iter().map(EventFd::try_clone).collect::<io::Result<Vec<_>>>()?;
        let links = LinkMonitor::new()?;
        let watch = Watch { card: Arc::clone(card), errors: watched, links, notifier: notifier.clone() };
        Ok(Prepared { pairs, errors, _watch: Worker::start("virtio-net", watch)? })
    }
}

/// All guest memory, as the kernel is told of it.
fn regions(ram: &GuestRam) -> Vec<VhostUserMemoryRegionInfo> {
    let region = |region: &memory::ram::RamRegion| VhostUserMemoryRegionInfo {
        guest_phys_addr: region.guest.start,
        memory_size: region.guest.size,
        userspace_addr: region.hva,
        ..VhostUserMemoryRegionInfo::default()
    };
    ram.regions().iter().map(region).collect()
}

fn os_error(error: vhost::Error) -> io::Error {
    match error {
        vhost::Error::IoctlError(error) | vhost::Error::IOError(error) => error,
        other => io::Error::other(other),
    }
}

/// One /dev/vhost-net, and the memory its rings are in.
struct Pair {
    file: Arc<File>,
    // Dropped before what it is a view of.
    memory: Arc<GuestMemoryMmap>,
    /// Keeps it mapped.
    _ram: Option<Arc<GuestRam>>,
}

impl AsRawFd for Pair {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl VhostKernBackend for Pair {
    type AS = Arc<GuestMemoryMmap>;

    fn mem(&self) -> &Self::AS {
        &self.memory
    }

    /// Whether each part of the ring is in one piece of memory.
    fn is_valid(&self, ring: &VringConfigData) -> bool {
        let size = usize::from(ring.queue_size);
        let lies = |address: u64, bytes: usize| {
            self.memory.get_slice(GuestAddress(address), bytes).is_ok_and(|slice| slice.len() == bytes)
        };
        ring.queue_size.is_power_of_two()
            && lies(ring.desc_table_addr, size * 16)
            && lies(ring.avail_ring_addr, size * 2 + 6)
            && lies(ring.used_ring_addr, size * 8 + 6)
    }
}

impl Pair {
    /// `VHOST_NET_SET_BACKEND`: has a ring served, with frames going to and coming from `tap`; or, with `None`, not any more:
    /// nothing of it is touched when this returns.
    fn set_backend(&self, ring: usize, tap: Option<&File>) -> io::Result<()> {
        let backend = vhost_vring_file { index: ring as u32, fd: tap.map_or(-1, AsRawFd::as_raw_fd) };
        // SAFETY: the kernel reads one vhost_vring_file.
        let done = unsafe { ioctl_with_ref(self, VHOST_NET_SET_BACKEND(), &backend) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// All pairs, for a driver.
pub(super) struct Prepared {
    pairs: Vec<Arc<Pair>>,
    /// Signalled by the kernel when a ring makes no sense, by the queue's number.
    errors: Vec<EventFd>,
    _watch: Worker<Watch>,
}

/// A ring that the kernel serves until this is dropped.
pub(super) struct Ring {
    pair: Arc<Pair>,
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
        let at = queue.addresses();
        let config = VringConfigData {
            queue_max_size: at.size,
            queue_size: at.size,
            flags: 0,
            desc_table_addr: at.descriptors,
            used_ring_addr: at.device,
            avail_ring_addr: at.driver,
            log_addr: None,
        };
        pair.set_vring_num(ring, at.size).map_err(os_error)?;
        pair.set_vring_base(ring, 0).map_err(os_error)?;
        pair.set_vring_addr(ring, &config).map_err(os_error)?;
        pair.set_vring_err(ring, error).map_err(os_error)?;
        pair.set_vring_kick(ring, queue.kick()).map_err(os_error)?;
        let (called, device) = (Arc::clone(pair), card.link.name().to_owned());
        let raised = queue.notifier().raised_outside(queue.index(), move |eventfd| {
            if let Err(error) = called.set_vring_call(ring, eventfd) {
                tracing::warn!(device, ring, %error, "the kernel does not take another interrupt for a ring");
            }
        })?;
        pair.set_backend(ring, Some(tap.file()))?;
        // Chains may have been made available before anybody listened.
        queue.come_back();
        Ok(Ring { pair: Arc::clone(pair), ring, _raised: raised })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Err(error) = self.pair.set_backend(self.ring, None) {
            tracing::error!(ring = self.ring, %error, "the kernel does not let go of a ring");
        }
    }
}

/// Watches what the kernel does not do: say that a ring is broken, or that a tap is gone.
struct Watch {
    card: Arc<Card>,
    errors: Vec<EventFd>,
    links: LinkMonitor,
    notifier: Notifier,
}

/// What the event of the monitor carries; those of rings carry their queue's number.
const LINKS: u32 = u32::MAX - 1;

impl MutEventSubscriber for Watch {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.data() == LINKS {
            self.links.take();
            if self.card.link.queues().iter().any(TapQueue::is_gone) {
                self.card.lose(&self.notifier);
            }
            return;
        }
        // It is said once: it would be said again and again.
        let _ = ops.remove(Events::empty_raw(events.fd()));
        self.notifier.broken(&RingBroken(u16::try_from(events.data()).unwrap_or(u16::MAX)));
    }

    fn init(&mut self, ops: &mut EventOps) {
        let rings =
            (0..).zip(&self.errors).map(|(index, error)| Events::with_data(error, index, EventSet::IN));
        for events in rings.chain([Events::with_data(&self.links, LINKS, EventSet::IN)]) {
            if let Err(error) = ops.add(events) {
                self.notifier.broken(&error);
            }
        }
    }
}
