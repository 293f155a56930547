//! A socket device that the host's kernel serves (Linux's drivers/vhost/vsock.c): programs of the host have sockets of the family
//! AF_VSOCK, and the guest's CID is its address among all guests of the host.
//!
//! The kernel serves both queues of packets or none of them. The third queue, of events, is of nobody's interest.
//!
//! # Unsafe
//!
//! The two ioctls that are vhost-vsock's own.
#![expect(unsafe_code, reason = "ioctls of vhost-vsock")]

use std::io;
use std::sync::Arc;

use miette::Diagnostic;
use thiserror::Error;
use vhost::vhost_kern::vhost_binding::{VHOST_VSOCK_SET_GUEST_CID, VHOST_VSOCK_SET_RUNNING};
use virtio_bindings::virtio_config::VIRTIO_F_RING_RESET;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::ioctl_with_ref;

use super::{QUEUE_SIZES, VSOCK};
use crate::virtio::vhost::{Driver, Errors, Kernel, Node, VhostError};
use crate::virtio::worker::Worker;
use crate::virtio::{Activation, Active, DeviceType, Queue, RaisedOutside, VirtioDevice, read_bytes};

/// What the kernel's rings and sockets may do for the guest: besides streams, connections that keep messages apart (virtio 1.3
/// §5.10.3, VIRTIO_VSOCK_F_SEQPACKET).
const OFFERED: u64 = 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << 1;
/// Queues that the kernel serves; those after it are not its own.
const SERVED: usize = 2;

/// Why a guest cannot have the kernel's sockets.
#[derive(Debug, Error, Diagnostic)]
pub enum VhostVsockError {
    /// The driver.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Driver(#[from] VhostError),
    /// The address is another's.
    #[error("the vsock address {0} is in use on this host")]
    #[diagnostic(help(
        "with `vhost` each guest of a host has an address of its own, the host too if it is a guest itself: give one that is \
         free, as in --vsock cid=N,vhost"
    ))]
    InUse(u32, #[source] io::Error),
    /// The kernel does not want it.
    #[error("the kernel does not give a guest the vsock address {0}")]
    #[diagnostic(help("give one from 3 to 4294967294, as in --vsock cid=3,vhost"))]
    Refused(u32, #[source] io::Error),
}

/// A socket device that the kernel serves.
#[derive(Debug)]
pub struct VhostVsock {
    cid: u32,
    node: Node,
}

impl VhostVsock {
    /// The device of the guest `cid`, which nobody else of this host has until it is dropped.
    ///
    /// # Errors
    /// There is no /dev/vhost-vsock, it is not ours, or it does not give the guest this address.
    pub fn open(cid: u32) -> Result<Self, VhostVsockError> {
        let node = Node::open(Driver::Vsock, 0)?;
        // SAFETY: the kernel reads one u64.
        let done = unsafe { ioctl_with_ref(&node, VHOST_VSOCK_SET_GUEST_CID(), &u64::from(cid)) };
        if done < 0 {
            let error = io::Error::last_os_error();
            return Err(match error.kind() {
                io::ErrorKind::AddrInUse => VhostVsockError::InUse(cid, error),
                _ => VhostVsockError::Refused(cid, error),
            });
        }
        Ok(Self { cid, node })
    }
}

impl VirtioDevice for VhostVsock {
    fn kind(&self) -> DeviceType {
        VSOCK
    }

    fn name(&self) -> String {
        format!("vsock {}", self.cid)
    }

    fn features(&self) -> u64 {
        self.node.known & OFFERED | 1 << VIRTIO_F_RING_RESET
    }

    fn queue_sizes(&self) -> Vec<u16> {
        QUEUE_SIZES.to_vec()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&u64::from(self.cid).to_le_bytes(), offset, data);
    }

    fn activate(&self, driver: Activation) -> io::Result<Box<dyn Active>> {
        let kernel = self.node.prepare(driver.features, &driver.ram)?;
        let (watched, errors) = Errors::new(SERVED, &driver.notifier)?;
        let watch = Worker::start("virtio-vsock", watched)?;
        let rings = [None, None];
        let mut serving =
            Serving { device: self.name(), kernel, errors, rings, events: None, runs: false, _watch: watch };
        driver.queues.into_iter().try_for_each(|queue| serving.start_queue(queue))?;
        Ok(Box::new(serving))
    }
}

/// Rings for a driver, which the kernel serves while all of them are there.
struct Serving {
    device: String,
    kernel: Arc<Kernel>,
    /// Signalled by the kernel when a ring makes no sense.
    errors: Vec<EventFd>,
    rings: [Option<(Queue, RaisedOutside)>; SERVED],
    events: Option<Queue>,
    runs: bool,
    _watch: Worker<Errors>,
}

impl Serving {
    /// `VHOST_VSOCK_SET_RUNNING`: has the rings served, or not any more: nothing of them is touched when this returns. Where
    /// it was in each of them the kernel knows.
    fn run(&mut self, runs: bool) -> io::Result<()> {
        if self.runs == runs {
            return Ok(());
        }
        // SAFETY: the kernel reads one int.
        let done = unsafe {
            ioctl_with_ref(self.kernel.as_ref(), VHOST_VSOCK_SET_RUNNING(), &libc::c_int::from(runs))
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        self.runs = runs;
        if runs {
            // Chains may have been made available before anybody listened.
            self.rings.iter().flatten().for_each(|(queue, _)| queue.come_back());
        }
        Ok(())
    }

    fn stop(&mut self) {
        if let Err(error) = self.run(false) {
            tracing::error!(device = self.device, %error, "the kernel does not let go of the rings");
        }
    }
}

impl Active for Serving {
    fn stop_queue(&mut self, index: u16) {
        match self.rings.get_mut(usize::from(index)) {
            Some(_) => {
                self.stop();
                self.rings.get_mut(usize::from(index)).map(Option::take);
            }
            None => self.events = None,
        }
    }

    fn start_queue(&mut self, queue: Queue) -> io::Result<()> {
        let index = usize::from(queue.index());
        let Some(error) = self.errors.get(index) else {
            self.events = Some(queue);
            return Ok(());
        };
        let raised = self.kernel.set_ring(index, &queue, error, &self.device)?;
        if let Some(place) = self.rings.get_mut(index) {
            *place = Some((queue, raised));
        }
        if self.rings.iter().all(Option::is_some) { self.run(true) } else { Ok(()) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
    }
}
