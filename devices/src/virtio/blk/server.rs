//! Serving one queue of a block device: chains become requests of an engine, and are given back when these are done.
//!
//! The thread waits for these at once: kicks of the driver, requests that are done, and the time when a limit allows more. Requests
//! of which the kernel has the answer at once, as with data in the page cache, are answered without waiting.
//!
//! While many small transfers are in flight the driver is asked not to kick: one of them is soon done, and what has come meanwhile is
//! seen then. So a busy disk costs the guest no exit, and this thread no look, for each request.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vm_memory::{Bytes, GuestAddress};

use super::SERIAL;
use super::counts::Counters;
use super::request::{Request, Status, status_address};
use crate::disk::{Completion, Disk, Engine, Operation, Readiness};
use crate::rate::{RateLimiter, Throttle};
use crate::virtio::{Chain, Queue, RingError};

/// So many quick transfers in flight are many: another request may wait until the first of them is done, which is an eighth of what it
/// takes them at the most.
const MANY: usize = 8;
/// Bytes of the largest transfer that is quick. Others may take their time, and what waited for one of them would be late.
const QUICK: u64 = 64 << 10;

const KICK: u32 = 0;
/// By threads.
const DONE: u32 = 1;
/// By io_uring.
const RING: u32 = 2;
const TIMER: u32 = 3;

/// What the queues of a device share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) disk: Arc<Disk>,
    pub(super) serial: String,
    pub(super) limiter: Option<Arc<RateLimiter>>,
    pub(super) writeback: Arc<AtomicBool>,
    pub(super) counters: Arc<Counters>,
}

/// Why a queue cannot be served any more.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("its driver broke the ring")]
    Ring(#[from] RingError),
    #[error("the host takes no more requests")]
    Engine(#[source] io::Error),
}

/// A request in flight.
struct Flight {
    chain: Chain,
    began: Instant,
    quick: bool,
}

/// Serves one queue.
pub(super) struct Server {
    queue: Queue,
    shared: Shared,
    engine: Engine,
    /// By the token of their request.
    flights: Vec<Option<Flight>>,
    /// How many of them are quick.
    quick: usize,
    free: Vec<usize>,
    /// What keeps it within its limits, if it has any.
    throttle: Option<Throttle>,
    /// Whether the driver was asked not to kick, so that whenever a request is done the thread has to look for new ones.
    unheard: bool,
    /// Whether it was said that requests fail.
    told: bool,
    /// Whether it cannot be served any more.
    broken: bool,
}

impl Server {
    /// Serves `queue`.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub(super) fn new(queue: Queue, shared: Shared) -> io::Result<Self> {
        let depth = queue.addresses().size;
        let engine = Engine::new(&shared.disk, depth)?;
        let throttle = shared.limiter.as_ref().map(Throttle::new).transpose()?;
        let slots = usize::from(depth);
        let (flights, free) = ((0..slots).map(|_| None).collect(), (0..slots).rev().collect());
        Ok(Self {
            queue,
            shared,
            engine,
            flights,
            quick: 0,
            free,
            throttle,
            unheard: false,
            told: false,
            broken: false,
        })
    }

    /// Some request is done, most likely. The kernel interrupts the wait for events to complete it; that the ring is ready then need not be
    /// waited for.
    pub(super) fn interrupted(&mut self) {
        if !self.broken {
            self.turn(false);
        }
    }

    fn turn(&mut self, looks: bool) {
        if let Err(error) = self.serve(looks) {
            self.broken = true;
            self.queue.notifier().broken(&error);
        }
    }

    /// Gives back what is done, and begins what is new if it `looks` for that or must, since the driver does not kick.
    fn serve(&mut self, looks: bool) -> Result<(), ServeError> {
        self.give_back()?;
        if !looks && !self.unheard {
            return Ok(self.queue.notify()?);
        }
        self.unheard = !self.begin()?;
        self.engine.kick().map_err(ServeError::Engine)?;
        self.give_back()?;
        // Those that it was to wait for may have been answered at once.
        if self.unheard && self.quick < MANY {
            self.queue.come_back();
        }
        Ok(self.queue.notify()?)
    }

    /// Begins what the driver has made available, as far as limits allow. A driver that adds chains without end is served in portions.
    /// Gives whether the thread comes back for more, be no request done.
    fn begin(&mut self) -> Result<bool, ServeError> {
        self.queue.disable_kicks()?;
        for _ in 0..self.queue.addresses().size {
            let held = self.throttle.as_mut().map_or(Ok(false), Throttle::holds);
            if held.map_err(ServeError::Engine)? {
                // The time will come, before which kicks would change nothing.
                return Ok(true);
            }
            match self.queue.pop()? {
                Some(chain) => self.start(chain)?,
                None if self.quick >= MANY => return Ok(false),
                None if self.queue.enable_kicks()? => self.queue.disable_kicks()?,
                None => return Ok(true),
            }
        }
        self.queue.enable_kicks()?;
        self.queue.come_back();
        Ok(true)
    }

    fn start(&mut self, chain: Chain) -> Result<(), RingError> {
        let durable = !self.shared.writeback.load(Ordering::Relaxed);
        let request = Request::parse(&chain, &self.queue, durable)?;
        let bytes = self.shared.counters.count(&request);
        if let Some(throttle) = &self.throttle {
            throttle.charge(bytes);
        }
        let began = Instant::now();
        let operation = match request {
            Request::Answer(status) => return self.answer(&chain, status),
            Request::Serial => return self.give_serial(&chain),
            Request::Disk(operation) => operation,
        };
        // There is a place for each entry of the ring.
        let Some(slot) = self.free.pop() else { return Err(RingError::Overfull) };
        let quick = is_quick(&operation);
        match self.engine.submit(slot as u64, operation) {
            Ok(()) => {
                if let Some(place) = self.flights.get_mut(slot) {
                    *place = Some(Flight { chain, began, quick });
                    self.quick += usize::from(quick);
                }
                Ok(())
            }
            Err(refused) => {
                tracing::debug!(disk = ?self.shared.disk, %refused, "request refused");
                self.free.push(slot);
                self.answer(&chain, Status::Error)
            }
        }
    }

    /// Gives back the chains of requests that are done.
    fn give_back(&mut self) -> Result<(), ServeError> {
        for Completion { token, result } in self.engine.completed().map_err(ServeError::Engine)? {
            let slot = token as usize;
            let Some(flight) = self.flights.get_mut(slot).and_then(Option::take) else { continue };
            let Flight { chain, began, quick } = flight;
            self.free.push(slot);
            self.quick -= usize::from(quick);
            self.shared.counters.latency.count(began.elapsed());
            if let Err(error) = &result {
                self.tell(error);
            }
            self.answer(&chain, if result.is_ok() { Status::Ok } else { Status::Error })?;
        }
        Ok(())
    }

    /// Says that a request failed; once is enough, since a guest tries again and again.
    fn tell(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.told, true) {
            tracing::debug!(disk = ?self.shared.disk, %error, "a request failed");
        } else {
            tracing::warn!(disk = ?self.shared.disk, %error, "a request failed, the guest sees an I/O error");
        }
    }

    fn give_serial(&mut self, chain: &Chain) -> Result<(), RingError> {
        let mut serial = [0; SERIAL];
        serial.iter_mut().zip(self.shared.serial.bytes()).for_each(|(to, from)| *to = from);
        if chain.writable_bytes() <= SERIAL as u64 {
            return self.answer(chain, Status::Error);
        }
        chain.writer().write_all(&serial).map_err(RingError::Access)?;
        self.answer(chain, Status::Ok)
    }

    fn answer(&mut self, chain: &Chain, status: Status) -> Result<(), RingError> {
        let address = status_address(chain).ok_or(RingError::Request("request to a disk"))?;
        self.queue.ram().buffers().write_obj(status.byte(), GuestAddress(address))?;
        self.queue.complete(chain, u32::try_from(chain.writable_bytes()).unwrap_or(u32::MAX))
    }
}

/// Whether it takes a disk about as long as any other transfer.
fn is_quick(operation: &Operation) -> bool {
    match operation {
        Operation::Read { into: buffers, .. } | Operation::Write { from: buffers, durable: false, .. } => {
            buffers.bytes() <= QUICK
        }
        _ => false,
    }
}

impl MutEventSubscriber for Server {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            DONE => self.engine.acknowledge(),
            TIMER => self.throttle.iter_mut().for_each(Throttle::take_event),
            _ => {}
        }
        if self.broken {
            // Nothing is of interest any more.
            let _ = ops.remove(events);
            return;
        }
        self.turn(matches!(events.data(), KICK | TIMER));
    }

    fn init(&mut self, ops: &mut EventOps) {
        for event in self.events() {
            if let Err(error) = ops.add(event) {
                self.queue.notifier().broken(&error);
            }
        }
        // Chains may have been made available before anybody listened.
        self.queue.come_back();
    }
}

impl Server {
    fn events(&self) -> impl Iterator<Item = Events> + use<> {
        let Readiness { threads, ring } = self.engine.events();
        let always = [self.queue.kicks(KICK), Events::with_data(&threads, DONE, EventSet::IN)];
        let ring = ring.map(|ring| Events::with_data(&ring, RING, EventSet::IN));
        let timer = self.throttle.as_ref().map(|throttle| Events::with_data(throttle, TIMER, EventSet::IN));
        always.into_iter().chain(ring).chain(timer)
    }
}
