//! Limits on how much a device does: bytes and operations a second, each with a burst.
//!
//! A bucket keeps one number: when all that was done would have been done at the limit's pace. What is ahead of the clock
//! by more than the burst waits. The check comes before a request and its cost after it, so that a request larger than
//! the burst passes once, and is paid for by those that follow.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

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
    /// Bytes of data.
    pub bytes: Option<Rate>,
    /// Operations: requests of a disk, frames of a network card.
    pub operations: Option<Rate>,
}

impl Limits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.bytes.or(self.operations).is_none()
    }
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

/// A limiter as one queue has it, with a timer that fires when the queue may go on.
#[derive(Debug)]
pub struct Throttle {
    limiter: Arc<RateLimiter>,
    timer: TimerFd,
}

impl Throttle {
    /// One that has a queue share in what `limiter` allows.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub fn new(limiter: &Arc<RateLimiter>) -> io::Result<Self> {
        let timer = TimerFd::new().map_err(io::Error::from)?;
        Ok(Self { limiter: Arc::clone(limiter), timer })
    }

    /// Whether the next operation has to wait. If so, the timer fires when it is time to ask again.
    ///
    /// # Errors
    /// The timer cannot be set.
    pub fn holds(&mut self) -> io::Result<bool> {
        let Some(wait) = self.limiter.wait() else { return Ok(false) };
        self.timer.reset(wait, None).map_err(io::Error::from)?;
        Ok(true)
    }

    /// Counts an operation of so many bytes.
    pub fn charge(&self, bytes: u64) {
        self.limiter.charge(bytes);
    }

    /// Takes the event of the timer, which has fired.
    pub fn take_event(&mut self) {
        // It is readable, so this does not wait. A failure would show as a timer that is readable again.
        let _ = self.timer.wait();
    }
}

impl AsRawFd for Throttle {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
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
