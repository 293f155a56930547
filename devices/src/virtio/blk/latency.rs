//! How long requests of a disk take, from the moment they are taken off the ring to the moment they are given back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Classes of requests by their time.
const CLASSES: usize = 11;
/// The longest time of the first class; each further one is four times as long, and the last has no end.
const FIRST: Duration = Duration::from_micros(16);

/// Requests of one disk by the time that they took. Counted by the threads that serve its queues, read by others.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    classes: [AtomicU64; CLASSES],
    nanoseconds: AtomicU64,
}

/// What has been counted up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    classes: [u64; CLASSES],
    /// Of all requests together.
    pub total: Duration,
}

impl Histogram {
    pub(super) fn count(&self, took: Duration) {
        let class = (0..CLASSES).find(|class| bound(*class).is_none_or(|longest| took <= longest));
        if let Some(requests) = class.and_then(|class| self.classes.get(class)) {
            requests.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(super) fn latency(&self) -> Latency {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Latency {
            classes: self.classes.each_ref().map(read),
            total: Duration::from_nanos(read(&self.nanoseconds)),
        }
    }
}

impl Latency {
    /// All requests that have been given back.
    pub fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// How many of them took at most so long, for each time that is told apart; `None` is any time.
    pub fn at_most(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let sums = self.classes.iter().scan(0, |sum, requests| {
            *sum += requests;
            Some(*sum)
        });
        sums.enumerate().map(|(class, sum)| (bound(class), sum))
    }
}

/// The longest time of a class.
fn bound(class: usize) -> Option<Duration> {
    (class + 1 < CLASSES).then(|| FIRST * 4_u32.pow(class as u32))
}

#[cfg(test)]
#[path = "latency_test.rs"]
mod tests;
