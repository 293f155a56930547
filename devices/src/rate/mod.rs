//! Limits on how much a device does: bytes and operations a second, each with a burst.
//!
//! A bucket keeps one number: when all that was done would have been done at the limit's pace. What is ahead of the clock
//! by more than the burst waits. The check comes before a request and its cost after it, so that a request larger than
//! the burst passes once, and is paid for by those that follow.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sync::lock;

/// A limit on something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many a second. Not 0.
    pub per_second: u64,
    /// How many at once, after a while without any.
    pub burst: u64,
}

/// Limits of a device. `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, in both directions together.
    pub bytes: Option<Rate>,
    /// Operations.
    pub operations: Option<Rate>,
}

/// Keeps what all queues of a device do within its limits.
#[derive(Debug)]
pub struct RateLimiter {
    start: Instant,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl RateLimiter {
    /// A limiter, or `None` if there is nothing to limit.
    pub fn new(limits: Limits) -> Option<Self> {
        let buckets =
            Buckets { bytes: limits.bytes.map(Bucket::new), operations: limits.operations.map(Bucket::new) };
        let limited = buckets.bytes.is_some() || buckets.operations.is_some();
        limited.then(|| Self { start: Instant::now(), buckets: Mutex::new(buckets) })
    }

    /// How long the next operation has to wait. `None`: not at all.
    pub fn wait(&self) -> Option<Duration> {
        let now = self.start.elapsed();
        let buckets = lock(&self.buckets);
        let waits = [&buckets.bytes, &buckets.operations].map(|bucket| bucket.as_ref()?.wait(now));
        waits.into_iter().flatten().max()
    }

    /// Counts an operation of so many bytes.
    pub fn charge(&self, bytes: u64) {
        let now = self.start.elapsed();
        let mut buckets = lock(&self.buckets);
        let Buckets { bytes: byte_bucket, operations } = &mut *buckets;
        for (bucket, amount) in [(byte_bucket, bytes), (operations, 1)] {
            if let Some(bucket) = bucket {
                bucket.charge(now, amount);
            }
        }
    }
}

/// One limit. Times are since whenever the limiter began.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// When all so far would be done at the limit's pace.
    due: Duration,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { rate, due: Duration::ZERO }
    }

    /// How long so many take.
    fn time(&self, amount: u64) -> Duration {
        let nanoseconds = u128::from(amount) * 1_000_000_000 / u128::from(self.rate.per_second.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    fn wait(&self, now: Duration) -> Option<Duration> {
        let allowed = now.saturating_add(self.time(self.rate.burst));
        self.due.checked_sub(allowed).filter(|wait| !wait.is_zero())
    }

    fn charge(&mut self, now: Duration, amount: u64) {
        self.due = self.due.max(now).saturating_add(self.time(amount));
    }
}

#[cfg(test)]
#[path = "rate_test.rs"]
mod tests;
