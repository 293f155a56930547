//! Rings and memory as a daemon is told of them. It knows both by guest physical addresses: those of this process are none
//! of its business, and the protocol asks only that rings and regions are told of in the same ones.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;

use memory::GuestRam;
use memory::ram::RamRegion;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::sync::lock;
use crate::virtio::vhost::ring;
use crate::virtio::{Queue, RaisedOutside};

/// Regions of memory that every daemon takes (`VHOST_USER_SET_MEM_TABLE`).
pub(super) const MOST_REGIONS: usize = 8;
/// Offset of the index in a used ring (virtio 1.3 §2.7.8).
const USED_INDEX: u64 = 2;

/// All guest memory: the memfd, region by region.
pub(super) fn regions(ram: &GuestRam) -> Vec<VhostUserMemoryRegionInfo> {
    let region = |region: &RamRegion| VhostUserMemoryRegionInfo {
        guest_phys_addr: region.guest.start,
        memory_size: region.guest.size,
        userspace_addr: region.guest.start,
        mmap_offset: region.offset,
        mmap_handle: ram.memfd().as_raw_fd(),
    };
    ram.regions().iter().map(region).collect()
}

/// A queue that the daemon serves.
pub(super) struct Ring {
    queue: Queue,
    config: VringConfigData,
    /// Signalled by the daemon when it has used chains.
    pub(super) call: EventFd,
    /// Signalled by the daemon when the ring makes no sense.
    pub(super) error: EventFd,
    signals: Signals,
    /// Whether a daemon has served it already.
    begun: bool,
    _raised: RaisedOutside,
}

impl Ring {
    /// For `queue`, whose interrupts are raised by whatever eventfd `tell` is told of.
    pub(super) fn new(
        queue: Queue,
        signals: Signals,
        tell: impl Fn(&EventFd) + Send + 'static,
    ) -> io::Result<Self> {
        let config = ring::config(&queue).map_err(io::Error::other)?;
        let eventfd = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        let (call, error) = (eventfd()?, eventfd()?);
        let _raised = queue.notifier().raised_outside(queue.index(), tell)?;
        Ok(Self { queue, config, call, error, signals, begun: false, _raised })
    }

    /// Has the daemon serve it from now on.
    pub(super) fn begin(&mut self, daemon: &mut Frontend) -> vhost::Result<()> {
        let index = usize::from(self.queue.index());
        // A daemon that ended has used so many chains. What it had taken besides is taken again: in the order in which it was
        // made available, or as the daemon's own record says.
        let base = if self.begun { self.used() } else { 0 };
        daemon.set_vring_num(index, self.config.queue_size)?;
        daemon.set_vring_base(index, base)?;
        daemon.set_vring_addr(index, &self.config)?;
        daemon.set_vring_call(index, &self.call)?;
        daemon.set_vring_err(index, &self.error)?;
        daemon.set_vring_kick(index, self.queue.kick())?;
        daemon.set_vring_enable(index, true)?;
        self.begun = true;
        Ok(())
    }

    /// Makes up for what was signalled while nobody listened, on either side: to be told once too often does no harm.
    pub(super) fn catch_up(&self) {
        self.signals.kick.signal(self.queue.kick());
        self.interrupt();
    }

    /// Raises the queue's interrupt.
    pub(super) fn interrupt(&self) {
        self.signals.call.signal(&self.call);
    }

    fn used(&self) -> u16 {
        let at = GuestAddress(self.queue.addresses().device + USED_INDEX);
        self.queue.ram().guest_memory().load(at, Ordering::Acquire).unwrap_or_default()
    }
}

/// What a queue is signalled by. They outlive its rings, so that there are never more threads than two for a queue.
#[derive(Clone, Default)]
pub(super) struct Signals {
    kick: Signal,
    call: Signal,
}

/// Signals an eventfd that a daemon has too. It can fill the counter of that, and have writes wait (`O_NONBLOCK` belongs to the
/// file, not to the descriptor), so nobody who must not wait does it, but a thread that nobody waits for: one at a time.
#[derive(Clone, Default)]
struct Signal(Arc<Mutex<Signalling>>);

#[derive(Default)]
struct Signalling {
    is_running: bool,
    /// What is to be signalled next.
    next: Option<EventFd>,
}

impl Signal {
    fn signal(&self, eventfd: &EventFd) {
        let mut state = lock(&self.0);
        state.next = match eventfd.try_clone() {
            Ok(eventfd) => Some(eventfd),
            Err(error) => return tracing::warn!(%error, "a queue is not signalled"),
        };
        if !state.is_running {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("vhost-signal".to_owned());
            match thread.spawn(move || Self::run(&shared)) {
                Ok(_) => state.is_running = true,
                Err(error) => tracing::warn!(%error, "a queue is not signalled"),
            }
        }
    }

    fn run(state: &Mutex<Signalling>) {
        loop {
            let next = {
                let mut state = lock(state);
                state.is_running = state.next.is_some();
                state.next.take()
            };
            let Some(eventfd) = next else { return };
            // Only a full counter refuses, and then it is signalled already.
            let _ = eventfd.write(1);
        }
    }
}
