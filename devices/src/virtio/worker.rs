//! Threads that serve queues, each with an event loop (event-manager) of its own.

use std::io;
use std::thread::{self, JoinHandle};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use sandbox::Role;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::device::Active;
use super::queue::{Chain, Queue, RingError};

/// What a worker's own stop event carries; subscribers number theirs from 0 up.
const STOP: u32 = u32::MAX;

/// A thread that runs the event loop of `S`. Dropping it stops the thread and waits for it.
pub struct Worker<S> {
    stop: EventFd,
    thread: Option<JoinHandle<Option<S>>>,
}

impl<S: MutEventSubscriber + Send + 'static> Worker<S> {
    /// Starts a thread called `name` (15 bytes of it are seen) that serves `subscriber`'s events.
    ///
    /// # Errors
    /// The host has no more descriptors or threads.
    pub fn start(name: &str, subscriber: S) -> io::Result<Self> {
        Self::start_with(name, subscriber, |_| {})
    }

    /// The same. `interrupted` is called when the wait for events ends without any, as it does when the kernel completes requests of
    /// io_uring in this thread.
    ///
    /// # Errors
    /// As for [`Worker::start`].
    pub fn start_with(name: &str, subscriber: S, interrupted: fn(&mut S)) -> io::Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let mut manager = EventManager::new().map_err(io::Error::other)?;
        let served = Served { subscriber, stop: stop.try_clone()?, stopped: false };
        let id = manager.add_subscriber(served);
        let work = move || {
            Role::Device.enter();
            while manager.subscriber_mut(id).is_ok_and(|served| !served.stopped) {
                match (manager.run(), manager.subscriber_mut(id)) {
                    (Ok(0), Ok(served)) => interrupted(&mut served.subscriber),
                    (Ok(_), _) => {}
                    (Err(error), _) => {
                        tracing::error!(%error, "event loop of a device fails");
                        break;
                    }
                }
            }
            manager.remove_subscriber(id).ok().map(|served| served.subscriber)
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops the thread and gives back what it served.
    pub fn stop(mut self) -> Option<S> {
        self.end()
    }
}

impl<S> Worker<S> {
    fn end(&mut self) -> Option<S> {
        let thread = self.thread.take()?;
        // An empty counter takes a one.
        let _ = self.stop.write(1);
        thread.join().ok().flatten()
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A subscriber, and the event that ends its thread.
struct Served<S> {
    subscriber: S,
    stop: EventFd,
    stopped: bool,
}

impl<S: MutEventSubscriber> MutEventSubscriber for Served<S> {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.data() == STOP {
            self.stopped = true;
        } else if !self.stopped {
            self.subscriber.process(events, ops);
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::with_data(&self.stop, STOP, EventSet::IN)) {
            tracing::error!(%error, "a device's thread cannot be stopped");
            self.stopped = true;
        }
        self.subscriber.init(ops);
    }
}

/// Something that serves several queues of a device on one thread.
pub trait ServesQueues: MutEventSubscriber + Send + 'static {
    /// Its thread's name.
    const NAME: &'static str;

    /// Has it serve a queue of this number from now on, or none. There may be no such queue.
    fn set(&mut self, index: u16, queue: Option<Queue>);
}

/// An active device whose queues are all served by one thread, which stands still when a queue comes or goes.
pub struct OneThread<S> {
    worker: Option<Worker<S>>,
}

impl<S: ServesQueues> OneThread<S> {
    /// Starts serving `queues`.
    ///
    /// # Errors
    /// As for [`Worker::start`].
    pub fn start(mut served: S, queues: Vec<Queue>) -> io::Result<Self> {
        queues.into_iter().for_each(|queue| served.set(queue.index(), Some(queue)));
        Ok(Self { worker: Some(Worker::start(S::NAME, served)?) })
    }

    fn change(&mut self, change: impl FnOnce(&mut S)) -> io::Result<()> {
        let stopped = self.worker.take().and_then(Worker::stop);
        let mut served = stopped.ok_or_else(|| io::Error::other("its thread has ended"))?;
        change(&mut served);
        self.worker = Some(Worker::start(S::NAME, served)?);
        Ok(())
    }
}

impl<S: ServesQueues> Active for OneThread<S> {
    fn stop_queue(&mut self, index: u16) {
        if let Err(error) = self.change(|served| served.set(index, None)) {
            tracing::error!(thread = S::NAME, %error, "a device does not go on without its queue");
        }
    }

    fn start_queue(&mut self, queue: Queue) -> io::Result<()> {
        self.change(|served| served.set(queue.index(), Some(queue)))
    }
}

/// Serves one queue whose chains are answered at once.
pub struct QueueServer {
    queue: Queue,
    /// Chains that are answered before the thread looks for other events.
    portion: u16,
    answer: Answer,
}

/// Answers a chain; gives the bytes it wrote.
type Answer = Box<dyn FnMut(&Chain) -> Result<u32, RingError> + Send>;

impl QueueServer {
    /// Starts a worker that has each chain of `queue` answered by `answer`.
    ///
    /// # Errors
    /// As for [`Worker::start`].
    pub fn start(
        name: &str,
        queue: Queue,
        answer: impl FnMut(&Chain) -> Result<u32, RingError> + Send + 'static,
    ) -> io::Result<Worker<Self>> {
        let portion = queue.addresses().size;
        Self::start_with(portion, name, queue, answer)
    }

    /// The same, where answers take long: the thread stops after so many, if it is to.
    ///
    /// # Errors
    /// As for [`Worker::start`].
    pub fn start_with(
        portion: u16,
        name: &str,
        queue: Queue,
        answer: impl FnMut(&Chain) -> Result<u32, RingError> + Send + 'static,
    ) -> io::Result<Worker<Self>> {
        Worker::start(name, Self { queue, portion, answer: Box::new(answer) })
    }
}

impl MutEventSubscriber for QueueServer {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if let Err(error) = self.queue.serve_some(self.portion, &mut self.answer) {
            self.queue.notifier().broken(&error);
            // Kicks are of no interest any more.
            let _ = ops.remove(events);
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(self.queue.kicks(0)) {
            self.queue.notifier().broken(&error);
        }
        // Chains may have been made available before anybody listened.
        self.queue.come_back();
    }
}

#[cfg(test)]
#[path = "worker_test.rs"]
mod tests;
