//! What keeps a daemon at work for a driver: a thread that tells it of other interrupts, sees it go, and gives all of it to
//! the one that comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use memory::GuestRam;
use vhost::VhostBackend;
use vhost::vhost_user::message::VhostUserInflight;
use vhost::vhost_user::{VhostUserFrontend, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use super::Shared;
use super::error::DaemonError;
use super::link::Link;
use super::ring::{MOST_REGIONS, Ring, regions};
use crate::sync::lock;
use crate::virtio::worker::Worker;
use crate::virtio::{Activation, Active, Notifier, Queue};

/// How often a daemon that is gone is looked for.
const RETRY: Duration = Duration::from_millis(200);

/// Time for each answer of one that is back, until it serves the device. A reset of the device waits for the thread, which may be
/// at it just then; and what takes longer is tried again.
const HURRY: Duration = Duration::from_secs(2);

/// What events carry; those of rings carry their queue's number.
const LINK: u32 = u32::MAX - 1;
const LOOK: u32 = u32::MAX - 2;
const CALLS: u32 = u32::MAX - 3;

/// A ring that the daemon cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("the daemon cannot serve queue {0}: its ring or a buffer in it makes no sense")]
struct RingBroken(u16);

/// A device that a daemon serves, until this is dropped.
pub(super) struct Kept(Option<Worker<Keeper>>);

impl Kept {
    /// Has the daemon serve what the driver has set up. Without a daemon that waits until there is one.
    pub(super) fn start(shared: &Arc<Shared>, driver: Activation) -> io::Result<Self> {
        let Activation { features, queues, notifier, ram } = driver;
        let mut keeper = Keeper {
            link: lock(&shared.link).take(),
            shared: Arc::clone(shared),
            features,
            ram,
            notifier,
            rings: BTreeMap::new(),
            inflight: None,
            calls: Arc::default(),
            called: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            look: TimerFd::new().map_err(io::Error::from)?,
            lost: None,
            said: None,
        };
        queues.into_iter().try_for_each(|queue| keeper.add(queue))?;
        keeper.begin();
        Worker::start("vhost-user", keeper).map(|worker| Self(Some(worker)))
    }

    /// Has the thread stand still meanwhile.
    fn change<T>(&mut self, change: impl FnOnce(&mut Keeper) -> io::Result<T>) -> io::Result<T> {
        let stopped = self.0.take().and_then(Worker::stop);
        let mut keeper = stopped.ok_or_else(|| io::Error::other("its thread has ended"))?;
        let changed = change(&mut keeper);
        self.0 = Some(Worker::start("vhost-user", keeper)?);
        changed
    }
}

impl Active for Kept {
    fn stop_queue(&mut self, index: u16) {
        let stop = |keeper: &mut Keeper| {
            keeper.stop(&[index]);
            Ok(())
        };
        if let Err(error) = self.change(stop) {
            tracing::error!(%error, "a device does not go on without its queue");
        }
    }

    fn start_queue(&mut self, queue: Queue) -> io::Result<()> {
        let index = queue.index();
        self.change(|keeper| {
            keeper.add(queue)?;
            keeper.begin_rings(&[index]);
            Ok(())
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(mut keeper) = self.0.take().and_then(Worker::stop) else { return };
        let all: Vec<u16> = keeper.rings.keys().copied().collect();
        keeper.stop(&all);
        *lock(&keeper.shared.link) = keeper.link.take();
    }
}

/// The record of requests under way that some daemons keep in memory, which outlives them with us.
struct Inflight {
    place: VhostUserInflight,
    file: File,
}

/// The thread's part.
struct Keeper {
    shared: Arc<Shared>,
    features: u64,
    ram: Arc<GuestRam>,
    notifier: Notifier,
    link: Option<Link>,
    rings: BTreeMap<u16, Ring>,
    inflight: Option<Inflight>,
    /// Which eventfd raises a queue's interrupt from now on; `called` says that there are such.
    calls: Arc<Mutex<BTreeMap<u16, EventFd>>>,
    called: EventFd,
    look: TimerFd,
    /// A connection that is of no use any more, and may still be waited for.
    lost: Option<Link>,
    /// What was said last of a daemon that is gone.
    said: Option<String>,
}

impl Keeper {
    fn add(&mut self, queue: Queue) -> io::Result<()> {
        let (index, calls, called) = (queue.index(), Arc::clone(&self.calls), self.called.try_clone()?);
        let device = self.shared.wanted.name.clone();
        // Called with the interrupts locked, so it leaves the talking to the thread.
        let tell = move |eventfd: &EventFd| match eventfd.try_clone() {
            Ok(eventfd) => {
                lock(&calls).insert(index, eventfd);
                // Only a full counter refuses, and then it is signalled already.
                let _ = called.write(1);
            }
            Err(error) => tracing::warn!(device, index, %error, "a queue keeps the interrupt it had"),
        };
        let signals = lock(&self.shared.signals).entry(index).or_default().clone();
        self.rings.insert(index, Ring::new(queue, signals, tell)?);
        self.take_calls();
        Ok(())
    }

    /// Notes the eventfds that raise interrupts from now on; gives the queues that have another.
    fn take_calls(&mut self) -> BTreeSet<u16> {
        let _ = self.called.read();
        let mut changed = BTreeSet::new();
        for (index, eventfd) in std::mem::take(&mut *lock(&self.calls)) {
            if let Some(ring) = self.rings.get_mut(&index) {
                ring.call = eventfd;
                changed.insert(index);
            }
        }
        changed
    }

    /// Has the daemon serve all queues; connects to it anew if need be.
    fn begin(&mut self) {
        let again = self.link.is_none() || self.said.is_some();
        match self.try_begin() {
            Ok(()) => {
                if again {
                    let device = &self.shared.wanted.name;
                    tracing::warn!(device, "a daemon serves the device again");
                }
                self.said = None;
            }
            Err(error) => self.lose(&error),
        }
    }

    fn try_begin(&mut self) -> Result<(), DaemonError> {
        if self.link.is_none() {
            let (link, config) = self.shared.wanted.connect(self.shared.wanted.patience.min(HURRY))?;
            self.link = Some(link);
            if std::mem::replace(&mut *lock(&self.shared.config), config.clone()) != config {
                self.notifier.config_changed();
            }
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        let path = &self.shared.wanted.socket;
        let missing = self.features & !link.offered() & !self.shared.wanted.ours;
        if missing != 0 {
            return Err(DaemonError::Changed { path: path.clone(), missing });
        }
        let regions = regions(&self.ram);
        if regions.len() > MOST_REGIONS {
            let regions = regions.len();
            return Err(DaemonError::Regions { path: path.clone(), regions, most: MOST_REGIONS });
        }
        let features = self.features & link.offered();
        let features = features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        link.exchange("serving guest memory", |daemon| {
            daemon.set_features(features)?;
            daemon.set_mem_table(&regions).map(drop)
        })?;
        if link.has(VhostUserProtocolFeatures::INFLIGHT_SHMFD) {
            let (queues, size) = self.shared.wanted.dimensions();
            let kept = &mut self.inflight;
            link.exchange("a record of requests", |daemon| {
                if kept.is_none() {
                    let (mut place, file) =
                        daemon.get_inflight_fd(&VhostUserInflight::new(0, 0, queues, size))?;
                    (place.num_queues, place.queue_size) = (queues, size);
                    *kept = Some(Inflight { place, file });
                }
                let Some(Inflight { place, file }) = kept else { return Ok(()) };
                daemon.set_inflight_fd(place, file.as_raw_fd())
            })?;
        }
        let rings = &mut self.rings;
        link.exchange("serving queues", |daemon| rings.values_mut().try_for_each(|ring| ring.begin(daemon)))?;
        link.set_patience(self.shared.wanted.patience);
        self.rings.values().for_each(Ring::catch_up);
        Ok(())
    }

    /// Has the daemon serve some queues besides.
    fn begin_rings(&mut self, which: &[u16]) {
        let (Some(link), rings) = (&mut self.link, &mut self.rings) else { return };
        let mut begun = rings.iter_mut().filter(|(index, _)| which.contains(index)).map(|(_, ring)| ring);
        let done = link.exchange("serving a queue", |daemon| begun.try_for_each(|ring| ring.begin(daemon)));
        match done {
            Ok(()) => which.iter().filter_map(|index| self.rings.get(index)).for_each(Ring::catch_up),
            Err(error) => self.lose(&error),
        }
    }

    /// Has the daemon let go of some queues, and forgets them.
    fn stop(&mut self, which: &[u16]) {
        let rings: Vec<usize> = which
            .iter()
            .filter(|index| self.rings.contains_key(index))
            .map(|index| (*index).into())
            .collect();
        if let Some(link) = &mut self.link {
            let stopped = link.exchange("an end to its queues", |daemon| {
                rings.iter().try_for_each(|ring| daemon.get_vring_base(*ring).map(drop))
            });
            if let Err(error) = stopped {
                self.lose(&error);
            }
        }
        which.iter().for_each(|index| drop(self.rings.remove(index)));
    }

    /// There is no daemon: says why, once, and looks for one again and again.
    fn lose(&mut self, why: &DaemonError) {
        if let Some(link) = self.link.take() {
            self.lost = Some(link);
        }
        let text = why.to_string();
        if self.said.as_ref() != Some(&text) {
            let (device, cause) =
                (&self.shared.wanted.name, std::error::Error::source(why).map(ToString::to_string));
            tracing::warn!(device, error = %why, cause, "no daemon serves the device: what the guest asks of it waits until one does");
            self.said = Some(text);
        }
        if let Err(error) = self.look.reset(RETRY, None) {
            self.notifier.broken(&error);
        }
    }

    /// Tells the daemon of other interrupts.
    fn tell_calls(&mut self) {
        let changed = self.take_calls();
        let (Some(link), rings) = (&mut self.link, &self.rings) else { return };
        let acknowledges = link.has(VhostUserProtocolFeatures::REPLY_ACK);
        let told = link.exchange("other interrupts", |daemon| {
            for (index, ring) in rings.iter().filter(|(index, _)| changed.contains(index)) {
                daemon.set_vring_call(usize::from(*index), &ring.call)?;
            }
            // An answer to anything means that all before it is done.
            if acknowledges { Ok(()) } else { daemon.get_features().map(drop) }
        });
        match told {
            // The daemon may have signalled the one before until now.
            Ok(()) => changed.iter().filter_map(|index| self.rings.get(index)).for_each(Ring::interrupt),
            Err(error) => self.lose(&error),
        }
    }

    /// Something came of the connection, which can only be its end.
    fn hear(&mut self) {
        if self.link.as_ref().is_some_and(|link| !link.is_quiet()) {
            let path = self.shared.wanted.socket.clone();
            self.lose(&DaemonError::Closed { path, step: "nothing" });
        }
    }

    fn watch_link(&mut self, ops: &mut EventOps) {
        if let Some(link) = &self.link
            && let Err(error) = ops.add(Events::with_data(link, LINK, EventSet::IN | EventSet::READ_HANG_UP))
        {
            self.notifier.broken(&error);
        }
    }
}

impl MutEventSubscriber for Keeper {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            LINK => self.hear(),
            CALLS => self.tell_calls(),
            LOOK => {
                let _ = self.look.wait();
                if self.link.is_none() {
                    self.begin();
                    self.watch_link(ops);
                }
            }
            ring => {
                // It is said once: it would be said again and again.
                let _ = ops.remove(Events::empty_raw(events.fd()));
                self.notifier.broken(&RingBroken(u16::try_from(ring).unwrap_or(u16::MAX)));
            }
        }
        if let Some(lost) = self.lost.take() {
            // One that was lost as it was set up was not waited for yet.
            let _ = ops.remove(Events::empty(&lost));
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        self.lost = None;
        let rings = self
            .rings
            .iter()
            .map(|(index, ring)| Events::with_data(&ring.error, (*index).into(), EventSet::IN));
        let own = [
            Events::with_data(&self.called, CALLS, EventSet::IN),
            Events::with_data(&self.look, LOOK, EventSet::IN),
        ];
        for events in rings.chain(own) {
            if let Err(error) = ops.add(events) {
                self.notifier.broken(&error);
            }
        }
        self.watch_link(ops);
    }
}
