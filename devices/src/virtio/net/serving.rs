//! The queues of a card whose driver is ready.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::pair::Pair;
use super::{Card, control, features, vhost};
use crate::virtio::worker::{OneThread, QueueServer, Worker};
use crate::virtio::{Activation, Active, Notifier, Queue};

/// What serves the queues of a card; dropping it stops that.
pub(super) struct Serving {
    card: Arc<Card>,
    /// What the driver accepted.
    features: u64,
    notifier: Notifier,
    pairs: Pairs,
    control: Option<Worker<QueueServer>>,
}

/// Who serves the queues that frames take.
enum Pairs {
    Kernel {
        prepared: vhost::Prepared,
        /// By the queue's index.
        rings: BTreeMap<u16, vhost::Ring>,
    },
    /// By the pair's number.
    Us(BTreeMap<u16, OneThread<Pair>>),
}

impl Serving {
    /// Starts serving what `driver` has set up, by the kernel where that is prepared.
    ///
    /// # Errors
    /// The host has no more descriptors or threads, or the kernel does not take a ring.
    pub(super) fn start(
        card: Arc<Card>,
        driver: Activation,
        kernel: Option<vhost::Prepared>,
    ) -> io::Result<Self> {
        let pairs = match kernel {
            Some(prepared) => Pairs::Kernel { prepared, rings: BTreeMap::new() },
            None => Pairs::Us(BTreeMap::new()),
        };
        let Activation { features, notifier, queues, .. } = driver;
        let mut serving = Self { card, features, notifier, pairs, control: None };
        let mut by_pair = BTreeMap::<u16, Vec<Queue>>::new();
        queues.into_iter().for_each(|queue| by_pair.entry(queue.index() / 2).or_default().push(queue));
        by_pair.into_iter().try_for_each(|(pair, queues)| serving.start_pair(pair, queues))?;
        Ok(serving)
    }

    /// Starts queues of a pair, of which others may be served already. What begins where the last pair ends is the control
    /// queue; a driver that knows of no pairs has no queues behind it.
    fn start_pair(&mut self, number: u16, queues: Vec<Queue>) -> io::Result<()> {
        let (card, features, control) = (Arc::clone(&self.card), self.features, self.control_queue());
        if number * 2 >= control {
            for queue in queues.into_iter().filter(|queue| queue.index() == control) {
                let card = Arc::clone(&card);
                let answer = move |chain: &_| control::answer(&card, features, chain);
                self.control = Some(QueueServer::start("virtio-net-ctrl", queue, answer)?);
            }
            return Ok(());
        }
        match &mut self.pairs {
            Pairs::Kernel { prepared, rings } => {
                for queue in queues {
                    rings.insert(queue.index(), prepared.serve(&card, &queue)?);
                }
            }
            Pairs::Us(pairs) => match pairs.get_mut(&number) {
                Some(pair) => queues.into_iter().try_for_each(|queue| pair.start_queue(queue))?,
                None => {
                    let pair = Pair::new(card, number, features, self.notifier.clone())?;
                    pairs.insert(number, OneThread::start(pair, queues)?);
                }
            },
        }
        Ok(())
    }

    fn control_queue(&self) -> u16 {
        features::control_queue(self.features, self.card.link.queues().len())
    }
}

impl Active for Serving {
    fn stop_queue(&mut self, index: u16) {
        if index == self.control_queue() {
            self.control = None;
            return;
        }
        match &mut self.pairs {
            Pairs::Kernel { rings, .. } => drop(rings.remove(&index)),
            Pairs::Us(pairs) => {
                if let Some(pair) = pairs.get_mut(&(index / 2)) {
                    pair.stop_queue(index);
                }
            }
        }
    }

    fn start_queue(&mut self, queue: Queue) -> io::Result<()> {
        self.start_pair(queue.index() / 2, vec![queue])
    }
}
