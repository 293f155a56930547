//! What the kernel says of rings that make no sense, and nobody else would hear.

use std::io;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::virtio::Notifier;

/// A queue that ran into something.
#[derive(Debug, Error)]
#[error("the kernel cannot serve queue {0}: its ring or a buffer in it makes no sense")]
struct RingBroken(u16);

/// Waits for it: the device stops until its driver resets it.
pub(in crate::virtio) struct Errors {
    /// By the queue's number, which their events carry.
    rings: Vec<EventFd>,
    notifier: Notifier,
}

impl Errors {
    /// For so many queues; with what the kernel is to signal for each.
    pub(in crate::virtio) fn new(queues: usize, notifier: &Notifier) -> io::Result<(Self, Vec<EventFd>)> {
        let eventfd = |_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        let rings = (0..queues).map(eventfd).collect::<io::Result<Vec<_>>>()?;
        let signalled = rings.iter().map(EventFd::try_clone).collect::<io::Result<_>>()?;
        Ok((Self { rings, notifier: notifier.clone() }, signalled))
    }
}

impl MutEventSubscriber for Errors {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        // It is said once: it would be said again and again.
        let _ = ops.remove(Events::empty_raw(events.fd()));
        self.notifier.broken(&RingBroken(u16::try_from(events.data()).unwrap_or(u16::MAX)));
    }

    fn init(&mut self, ops: &mut EventOps) {
        for (index, error) in (0..).zip(&self.rings) {
            if let Err(error) = ops.add(Events::with_data(error, index, EventSet::IN)) {
                self.notifier.broken(&error);
            }
        }
    }
}
