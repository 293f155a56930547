//! Serving the queues of a balloon on one thread.
//!
//! Which queue is which depends on what was negotiated: the specification numbers all that there may be (§5.5.2), Linux those that it
//! uses. Since there is no queue for hints, whatever comes after the statistics is the one for free pages either way.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use memory::{DiscardError, GuestRam, GuestRange};
use vmm_sys_util::timerfd::TimerFd;

use super::{Shared, Statistics, abi, pages};
use crate::sync::lock;
use crate::virtio::worker::ServesQueues;
use crate::virtio::{Chain, Notifier, Queue, RingError};

/// Linux reports free pages by 32 ranges at a time.
pub(super) const QUEUE_SIZES: [u16; 5] = [64, 64, 16, 64, 64];
/// Chains that are served before the thread looks whether it is to end: giving back takes time.
const PORTION: u16 = 4;
/// Ranges of free pages that one chain may have.
const MOST_RANGES: usize = 256;
const TIMER: u32 = u32::MAX - 1;

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Inflate,
    Deflate,
    Statistics,
    FreePages,
}

impl Purpose {
    fn of(index: u16, features: u64) -> Option<Self> {
        let has = |bit: u64| features & bit != 0;
        match index {
            0 => Some(Self::Inflate),
            1 => Some(Self::Deflate),
            2 if has(abi::STATISTICS) => Some(Self::Statistics),
            2..=4 if has(abi::FREE_PAGES) => Some(Self::FreePages),
            _ => None,
        }
    }
}

/// Serves a balloon's queues.
pub(super) struct Server {
    features: u64,
    queues: [Option<Queue>; QUEUE_SIZES.len()],
    shared: Arc<Shared>,
    notifier: Notifier,
    /// The buffer that the next statistics are to come in.
    held: Option<Chain>,
    /// When they are due.
    timer: TimerFd,
    broken: bool,
    /// Whether it was said that the host takes nothing back.
    told: bool,
}

impl Server {
    /// For a driver with these features. Statistics are asked for each `period`.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub(super) fn new(
        features: u64,
        period: Option<Duration>,
        shared: Arc<Shared>,
        notifier: Notifier,
    ) -> io::Result<Self> {
        let mut timer = TimerFd::new().map_err(io::Error::from)?;
        if let Some(period) = period {
            timer.reset(period, Some(period)).map_err(io::Error::from)?;
        }
        let queues = [const { None }; QUEUE_SIZES.len()];
        Ok(Self { features, queues, shared, notifier, held: None, timer, broken: false, told: false })
    }

    fn serve(&mut self, index: u16) -> Result<(), RingError> {
        let Self { queues, told, held, shared, .. } = self;
        let Some(Some(queue)) = queues.get_mut(usize::from(index)) else { return Ok(()) };
        let ram = queue.ram().clone();
        match Purpose::of(index, self.features) {
            Some(Purpose::Inflate) => queue.serve_some(PORTION, |chain| {
                pages::named(chain)?.into_iter().try_for_each(|range| give_back(&ram, range, told))?;
                Ok(0)
            }),
            // The pages come back when the guest uses them.
            Some(Purpose::Deflate) => queue.serve_some(PORTION, |chain| pages::named(chain).map(|_| 0)),
            Some(Purpose::FreePages) => queue.serve_some(PORTION, |chain| {
                if chain.writable().len() > MOST_RANGES {
                    return Err(RingError::TooLong);
                }
                for segment in chain.writable() {
                    give_back(&ram, GuestRange::new(segment.address, segment.length.into()), told)?;
                }
                Ok(0)
            }),
            Some(Purpose::Statistics) => take_statistics(queue, held, shared),
            None => Ok(()),
        }
    }

    /// Gives the buffer for statistics to the driver, which makes it available again with new ones.
    fn ask_for_statistics(&mut self) -> Result<(), RingError> {
        for queue in self.queues.iter_mut().flatten() {
            if Purpose::of(queue.index(), self.features) == Some(Purpose::Statistics)
                && let Some(chain) = self.held.take()
            {
                queue.complete(&chain, 0)?;
                queue.notify()?;
            }
        }
        Ok(())
    }

    fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter().flatten()
    }
}

/// Gives pages back to the host. One that does not take them is told of once: the guest loses nothing by it.
fn give_back(ram: &GuestRam, range: GuestRange, told: &mut bool) -> Result<(), RingError> {
    match ram.discard(range) {
        Ok(()) => Ok(()),
        Err(DiscardError::NotRam(range)) => Err(RingError::Pages(range)),
        Err(DiscardError::Host { range, source }) => {
            if !std::mem::replace(told, true) {
                tracing::warn!(%range, error = %source, "the host does not take back pages of the balloon");
            }
            Ok(())
        }
    }
}

/// Reads what the driver says, and keeps the buffer until the next is to be said. A driver has one; of more the last one is kept.
fn take_statistics(queue: &mut Queue, held: &mut Option<Chain>, shared: &Shared) -> Result<(), RingError> {
    queue.disable_kicks()?;
    for _ in 0..PORTION {
        let Some(chain) = queue.pop()? else {
            if queue.enable_kicks()? {
                queue.disable_kicks()?;
                continue;
            }
            return queue.notify();
        };
        *lock(&shared.statistics) = Some(Statistics::read(chain.reader()));
        if let Some(before) = held.replace(chain) {
            queue.complete(&before, 0)?;
        }
    }
    queue.enable_kicks()?;
    queue.come_back();
    queue.notify()
}

impl ServesQueues for Server {
    const NAME: &'static str = "virtio-balloon";

    fn set(&mut self, index: u16, queue: Option<Queue>) {
        if Purpose::of(index, self.features) == Some(Purpose::Statistics) {
            self.held = None;
        }
        if let Some(place) = self.queues.get_mut(usize::from(index)) {
            *place = queue;
        }
    }
}

impl MutEventSubscriber for Server {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if self.broken {
            // Nothing is of interest any more.
            let _ = ops.remove(events);
            return;
        }
        let done = match events.data() {
            TIMER => {
                // It is readable, so this does not wait. A failure would show as a timer that is readable again.
                let _ = self.timer.wait();
                self.ask_for_statistics()
            }
            index => u16::try_from(index).map_or(Ok(()), |index| self.serve(index)),
        };
        if let Err(error) = done {
            self.broken = true;
            self.notifier.broken(&error);
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let kicks = self.queues().map(|queue| queue.kicks(queue.index().into()));
        let polled: Vec<_> =
            kicks.chain([Events::with_data_raw(self.timer.as_raw_fd(), TIMER, EventSet::IN)]).collect();
        for event in polled {
            if let Err(error) = ops.add(event) {
                self.broken = true;
                self.notifier.broken(&error);
            }
        }
        // Chains may have been made available before anybody listened.
        self.queues().for_each(Queue::come_back);
    }
}
