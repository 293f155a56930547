//! A device's interrupts: a vector for each queue and one for changes of the device itself (virtio 1.3 §4.1.5.1.2).
//!
//! Workers raise them at any time. A vector that is masked, and was never unmasked, has nothing that could be raised yet:
//! that it is pending is noted here and made up for when it is connected.
//!
//! Whoever serves a queue outside this process (vhost) is told which eventfd raises its vector, and again whenever that
//! changes. While nothing can be raised it is given one of ours, where its signals collect.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::eventfd::is_signalled;
use crate::pci::VectorBackend;
use crate::sync::lock;

/// No vector (§4.1.5.1.2.1).
pub const NO_VECTOR: u16 = 0xffff;
/// ISR status: a queue was used.
const ISR_QUEUE: u8 = 1 << 0;
/// ISR status: the configuration has changed.
const ISR_CONFIG: u8 = 1 << 1;

/// The interrupts of one device.
pub struct Interrupts {
    device: String,
    vectors: Mutex<Vectors>,
    isr: AtomicU8,
    /// Counts changes of the device's configuration.
    generation: AtomicU8,
    broken: AtomicBool,
}

struct Vectors {
    /// By vector number.
    triggers: Vec<Trigger>,
    queues: Vec<u16>,
    config: u16,
    outside: BTreeMap<u16, Outside>,
}

/// A queue whose interrupts are raised outside this process.
struct Outside {
    /// Signalled while the queue's vector cannot be raised.
    parked: EventFd,
    tell: Box<dyn Fn(&EventFd) + Send>,
}

#[derive(Default)]
struct Trigger {
    eventfd: Option<EventFd>,
    pending: bool,
}

impl Interrupts {
    /// For a device with so many queues, and a vector for each and one more. `device` is what messages call it.
    pub(super) fn new(device: String, queues: usize) -> Arc<Self> {
        let triggers = std::iter::repeat_with(Trigger::default).take(queues + 1).collect();
        let outside = BTreeMap::new();
        let vectors = Vectors { triggers, queues: vec![NO_VECTOR; queues], config: NO_VECTOR, outside };
        Arc::new(Self {
            device,
            vectors: Mutex::new(vectors),
            isr: AtomicU8::new(0),
            generation: AtomicU8::new(0),
            broken: AtomicBool::new(false),
        })
    }

    /// Chooses the vector of a queue; gives what was chosen, which is none if there is no such vector.
    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) -> u16 {
        let mut vectors = lock(&self.vectors);
        let vector = vectors.checked(vector);
        if let Some(place) = vectors.queues.get_mut(usize::from(queue)) {
            *place = vector;
        }
        vectors.tell(queue);
        vector
    }

    /// The same for changes of the configuration.
    pub(super) fn set_config_vector(&self, vector: u16) -> u16 {
        let mut vectors = lock(&self.vectors);
        vectors.config = vectors.checked(vector);
        vectors.config
    }

    /// Forgets what the driver chose and what it was to hear of.
    pub(super) fn reset(&self) {
        let mut vectors = lock(&self.vectors);
        vectors.queues.fill(NO_VECTOR);
        vectors.config = NO_VECTOR;
        self.isr.store(0, Ordering::Release);
        self.broken.store(false, Ordering::Release);
    }

    /// Reads the ISR status, which clears it.
    pub(super) fn take_isr(&self) -> u8 {
        self.isr.swap(0, Ordering::AcqRel)
    }

    /// Whether the device has given up on its driver.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// The configuration's generation (§4.1.4.3.1).
    pub(super) fn generation(&self) -> u8 {
        self.generation.load(Ordering::Acquire)
    }

    /// The pending bits of vectors that were raised and could not be, from vector `first` on.
    pub(super) fn pending(&self, first: u64) -> u8 {
        let vectors = lock(&self.vectors);
        let bit = |bit: u64| {
            let vector = usize::try_from(first.saturating_add(bit)).unwrap_or(usize::MAX);
            u8::from(vectors.is_pending(vector)) << bit
        };
        (0..8).map(bit).fold(0, |all, one| all | one)
    }
}

impl Vectors {
    fn checked(&self, vector: u16) -> u16 {
        if usize::from(vector) < self.triggers.len() { vector } else { NO_VECTOR }
    }

    fn is_pending(&self, vector: usize) -> bool {
        let collected = |(queue, outside): (&u16, &Outside)| {
            let chosen = self.queues.get(usize::from(*queue)).copied();
            chosen.map(usize::from) == Some(vector) && is_signalled(&outside.parked)
        };
        self.triggers.get(vector).is_some_and(|trigger| trigger.pending) || self.outside.iter().any(collected)
    }

    /// Tells whoever serves a queue outside which eventfd raises its vector, and makes up for what has collected.
    fn tell(&mut self, queue: u16) {
        let Some(Outside { parked, tell }) = self.outside.get_mut(&queue) else { return };
        let vector = self.queues.get(usize::from(queue)).copied().unwrap_or(NO_VECTOR);
        match self.triggers.get(usize::from(vector)).and_then(|trigger| trigger.eventfd.as_ref()) {
            Some(eventfd) => {
                tell(eventfd);
                // From now on nothing more collects. Others have the same file, and can make a read of it wait: what was signalled
                // is not read, but replaced.
                if is_signalled(parked) {
                    if let Ok(another) = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC) {
                        *parked = another;
                    }
                    // Only a full counter refuses, and then it is raised already.
                    let _ = eventfd.write(1);
                }
            }
            None => tell(parked),
        }
    }

    fn raise(&mut self, vector: u16) {
        let Some(trigger) = self.triggers.get_mut(usize::from(vector)) else { return };
        match &trigger.eventfd {
            // Only a full counter refuses, and then it is raised already.
            Some(eventfd) => drop(eventfd.write(1)),
            None => trigger.pending = true,
        }
    }
}

impl VectorBackend for Interrupts {
    fn connect(&self, vectors: &[(u16, &EventFd)]) -> io::Result<()> {
        let mut all = lock(&self.vectors);
        for (vector, eventfd) in vectors {
            let Some(trigger) = all.triggers.get_mut(usize::from(*vector)) else { continue };
            trigger.eventfd = Some(eventfd.try_clone()?);
            if std::mem::take(&mut trigger.pending) {
                all.raise(*vector);
            }
            let chosen = |queue: &u16| all.queues.get(usize::from(*queue)) == Some(vector);
            let queues: Vec<u16> = all.outside.keys().copied().filter(chosen).collect();
            queues.into_iter().for_each(|queue| all.tell(queue));
        }
        Ok(())
    }

    fn disconnect_all(&self) {
        let mut all = lock(&self.vectors);
        all.triggers.fill_with(Trigger::default);
        let queues: Vec<u16> = all.outside.keys().copied().collect();
        queues.into_iter().for_each(|queue| all.tell(queue));
    }

    fn owner(&self) -> String {
        self.device.clone()
    }
}

/// A device's way to its driver.
#[derive(Clone)]
pub struct Notifier(Arc<Interrupts>);

impl Notifier {
    pub(super) fn new(interrupts: &Arc<Interrupts>) -> Self {
        Self(Arc::clone(interrupts))
    }

    /// The driver has used chains to look at.
    pub fn queue_used(&self, queue: u16) {
        self.0.isr.fetch_or(ISR_QUEUE, Ordering::AcqRel);
        let mut vectors = lock(&self.0.vectors);
        if let Some(vector) = vectors.queues.get(usize::from(queue)).copied() {
            vectors.raise(vector);
        }
    }

    /// Has a queue's interrupts raised outside this process, by signalling the eventfd that `tell` was told of last. It is
    /// told of the first one now, and must neither wait nor call back.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub fn raised_outside(
        &self,
        queue: u16,
        tell: impl Fn(&EventFd) + Send + 'static,
    ) -> io::Result<RaisedOutside> {
        let parked = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let mut vectors = lock(&self.0.vectors);
        vectors.outside.insert(queue, Outside { parked, tell: Box::new(tell) });
        vectors.tell(queue);
        Ok(RaisedOutside { interrupts: Arc::clone(&self.0), queue })
    }

    /// The device's configuration is not what it was: it reads differently already.
    pub fn config_changed(&self) {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        self.0.isr.fetch_or(ISR_CONFIG, Ordering::AcqRel);
        let mut vectors = lock(&self.0.vectors);
        let config = vectors.config;
        vectors.raise(config);
    }

    /// Whether the device has given up on its driver.
    pub fn is_broken(&self) -> bool {
        self.0.is_broken()
    }

    /// The device cannot go on with what its driver did, or with what the host does: it stands still until it is reset.
    /// Said once.
    pub fn broken(&self, why: &dyn std::error::Error) {
        if self.0.broken.swap(true, Ordering::AcqRel) {
            return;
        }
        let cause = why.source().map(ToString::to_string);
        tracing::warn!(device = self.0.device, error = %why, cause, "virtio device stops until its driver resets it");
        self.config_changed();
    }
}

/// A queue whose interrupts are raised outside this process, until this is dropped.
pub struct RaisedOutside {
    interrupts: Arc<Interrupts>,
    queue: u16,
}

impl Drop for RaisedOutside {
    fn drop(&mut self) {
        lock(&self.interrupts.vectors).outside.remove(&self.queue);
    }
}

#[cfg(test)]
#[path = "interrupts_test.rs"]
mod tests;
