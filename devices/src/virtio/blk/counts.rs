//! What a disk has done for its guest since the machine was built. Counted by the threads that serve its queues, read by others.

use std::sync::atomic::{AtomicU64, Ordering};

use super::latency::{Histogram, Latency};
use super::request::Request;
use crate::disk::Operation;

/// Counters of one disk.
#[derive(Debug, Default)]
pub(super) struct Counters {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    others: AtomicU64,
    pub(super) latency: Histogram,
}

/// What has been counted up to a moment. Requests are counted as they begin, those that fail too; their time as they end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Reads.
    pub reads: u64,
    /// Bytes to read.
    pub read_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes to write.
    pub written_bytes: u64,
    /// Flushes, discards and zeroes.
    pub others: u64,
    /// How long they took.
    pub latency: Latency,
}

impl Counters {
    /// One more; gives the bytes that it moves.
    pub(super) fn count(&self, request: &Request) -> u64 {
        let more = |requests: &AtomicU64| requests.fetch_add(1, Ordering::Relaxed);
        let (requests, bytes, moved) = match request {
            Request::Disk(Operation::Read { into, .. }) => (&self.reads, &self.read_bytes, into.bytes()),
            Request::Disk(Operation::Write { from, .. }) => (&self.writes, &self.written_bytes, from.bytes()),
            Request::Disk(_) => {
                more(&self.others);
                return 0;
            }
            // Refused, or about the device.
            _ => return 0,
        };
        more(requests);
        bytes.fetch_add(moved, Ordering::Relaxed);
        moved
    }

    pub(super) fn counts(&self) -> DiskCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskCounts {
            reads: read(&self.reads),
            read_bytes: read(&self.read_bytes),
            writes: read(&self.writes),
            written_bytes: read(&self.written_bytes),
            others: read(&self.others),
            latency: self.latency.latency(),
        }
    }
}
