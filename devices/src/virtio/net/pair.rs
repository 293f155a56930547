//! A pair of queues and the tap between which they move frames, on one thread: what a frame out brings back is often there
//! when the thread looks, and a CPU that the guest needs as well switches to one thread instead of two.

use std::io;
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;

use super::receive::Receiver;
use super::transmit::Transmitter;
use super::{Card, features};
use crate::rate::Throttle;
use crate::virtio::worker::ServesQueues;
use crate::virtio::{Notifier, Queue, RingError};

const RECEIVE_KICK: u32 = 0;
const SEND_KICK: u32 = 1;
const TAP: u32 = 2;
const RECEIVE_TIMER: u32 = 3;
const SEND_TIMER: u32 = 4;

/// Serves the two queues of a pair, as far as they are started.
pub(super) struct Pair {
    card: Arc<Card>,
    /// Which of the tap's queues.
    number: usize,
    features: u64,
    notifier: Notifier,
    receiver: Option<Receiver>,
    transmitter: Option<Transmitter>,
    /// What keeps each of them within its limits, if it has any.
    receive_throttle: Option<Throttle>,
    send_throttle: Option<Throttle>,
    /// What the thread waits for at the tap.
    watched: EventSet,
}

impl Pair {
    /// One that has no queues yet, of a driver that accepted `features`.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub(super) fn new(card: Arc<Card>, number: u16, features: u64, notifier: Notifier) -> io::Result<Self> {
        Ok(Self {
            receive_throttle: card.received.as_ref().map(Throttle::new).transpose()?,
            send_throttle: card.sent.as_ref().map(Throttle::new).transpose()?,
            card,
            number: number.into(),
            features,
            notifier,
            receiver: None,
            transmitter: None,
            watched: EventSet::empty(),
        })
    }

    /// Waits for what its queues want of the tap, and for nothing else.
    fn watch(&mut self, ops: &mut EventOps) {
        let Some(tap) = self.card.link.queues().get(self.number) else { return };
        let mut wanted = EventSet::empty();
        // What is of no interest any more would be said again and again.
        if !self.notifier.is_broken() && !self.card.is_lost() {
            wanted.set(EventSet::IN, self.receiver.as_ref().is_some_and(Receiver::waits_for_frames));
            wanted.set(EventSet::OUT, self.transmitter.as_ref().is_some_and(Transmitter::waits_for_room));
        }
        let events = Events::with_data(tap, TAP, wanted);
        let changed = match (std::mem::replace(&mut self.watched, wanted), wanted) {
            (before, now) if before == now => Ok(()),
            (before, _) if before.is_empty() => ops.add(events),
            (_, now) if now.is_empty() => ops.remove(events),
            _ => ops.modify(events),
        };
        if let Err(error) = changed {
            self.notifier.broken(&error);
        }
    }

    fn queues(&self) -> impl Iterator<Item = (&Queue, u32)> {
        let receive = self.receiver.as_ref().map(|it| (it.queue(), RECEIVE_KICK));
        let send = self.transmitter.as_ref().map(|it| (it.queue(), SEND_KICK));
        receive.into_iter().chain(send)
    }
}

/// Whether the next frame has to wait for the throttle's timer, which is set then.
pub(super) fn held_by(throttle: &mut Option<Throttle>) -> Result<bool, RingError> {
    throttle.as_mut().map_or(Ok(false), Throttle::holds).map_err(RingError::Host)
}

impl ServesQueues for Pair {
    const NAME: &'static str = "virtio-net";

    fn set(&mut self, index: u16, queue: Option<Queue>) {
        let (card, pair) = (&self.card, self.number);
        if index.is_multiple_of(2) {
            let mergeable = features::has(self.features, VIRTIO_NET_F_MRG_RXBUF);
            let large = features::takes_large(self.features);
            let receiver = |queue| Receiver::new(Arc::clone(card), pair, queue, mergeable, large);
            self.receiver = queue.map(receiver);
        } else {
            self.transmitter = queue.map(|queue| Transmitter::new(Arc::clone(card), pair, queue));
        }
    }
}

impl MutEventSubscriber for Pair {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let mut at_tap = EventSet::empty();
        match events.data() {
            TAP => at_tap = events.event_set(),
            RECEIVE_TIMER => self.receive_throttle.iter_mut().for_each(Throttle::take_event),
            SEND_TIMER => self.send_throttle.iter_mut().for_each(Throttle::take_event),
            _ => {}
        }
        if at_tap.contains(EventSet::ERROR) {
            self.card.lose(&self.notifier);
        }
        let kicked = |kick, timer| events.data() == kick || events.data() == timer;
        let may_send = !self.notifier.is_broken();
        let mut sent = None;
        if let Some(transmitter) = self.transmitter.as_mut().filter(|_| may_send) {
            let asked = kicked(SEND_KICK, SEND_TIMER) && !transmitter.waits_for_room();
            // A frame that waits for a tap that is gone is done with as well.
            if asked || at_tap.intersects(EventSet::OUT | EventSet::ERROR) {
                sent = Some(transmitter.serve(&mut self.send_throttle));
            }
        }
        let may_receive = !self.notifier.is_broken() && !self.card.is_lost();
        if let Some(receiver) = self.receiver.as_mut().filter(|_| may_receive) {
            // What comes back for a frame within this host has come when the frame is out.
            let answered = sent.is_some() && receiver.waits_for_frames();
            if answered || kicked(RECEIVE_KICK, RECEIVE_TIMER) || at_tap.contains(EventSet::IN) {
                receiver.serve(&mut self.receive_throttle);
            }
        }
        // Last: the driver hears of both directions at once, and what it adds until then needs no kick.
        if let (Some(transmitter), Some(all)) = (&mut self.transmitter, sent) {
            transmitter.conclude(all);
        }
        self.watch(ops);
    }

    fn init(&mut self, ops: &mut EventOps) {
        // Of an event loop that is gone.
        self.watched = EventSet::empty();
        let kicks = self.queues().map(|(queue, kick)| queue.kicks(kick));
        let timers = [(&self.receive_throttle, RECEIVE_TIMER), (&self.send_throttle, SEND_TIMER)];
        let timers = timers
            .into_iter()
            .filter_map(|(it, timer)| Some(Events::with_data(it.as_ref()?, timer, EventSet::IN)));
        for event in kicks.chain(timers) {
            if let Err(error) = ops.add(event) {
                self.notifier.broken(&error);
            }
        }
        // Chains may have been made available before anybody listened.
        self.queues().for_each(|(queue, _)| queue.come_back());
        self.watch(ops);
    }
}
