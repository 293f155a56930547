//! Why a vCPU left the guest, and how often.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Counted by the vCPU's own thread, read by others. On cache lines of its own, so that vCPUs do not share any.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Exits {
    port: AtomicU64,
    mmio: AtomicU64,
    end_of_interrupt: AtomicU64,
    kicked: AtomicU64,
    other: AtomicU64,
    thread: AtomicI32,
}

/// What has been counted up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitCounts {
    /// Port I/O.
    pub port: u64,
    /// Memory-mapped I/O.
    pub mmio: u64,
    /// The end of a level-triggered interrupt.
    pub end_of_interrupt: u64,
    /// A signal: the machine wanted the vCPU.
    pub kicked: u64,
    /// Anything else.
    pub other: u64,
}

impl ExitCounts {
    /// Each cause's name and count.
    pub fn by_cause(&self) -> [(&'static str, u64); 5] {
        [
            ("port", self.port),
            ("mmio", self.mmio),
            ("end_of_interrupt", self.end_of_interrupt),
            ("kicked", self.kicked),
            ("other", self.other),
        ]
    }
}

/// A reason that is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    Port,
    Mmio,
    EndOfInterrupt,
    Kicked,
    Other,
}

impl Exits {
    /// One more. Only one thread counts, so no more than a store is needed.
    pub(super) fn count(&self, cause: Cause) {
        let counter = match cause {
            Cause::Port => &self.port,
            Cause::Mmio => &self.mmio,
            Cause::EndOfInterrupt => &self.end_of_interrupt,
            Cause::Kicked => &self.kicked,
            Cause::Other => &self.other,
        };
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The calling thread is the one that counts.
    pub(crate) fn begin(&self) {
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    }

    /// The number of the thread that counts (gettid); 0 before there is one.
    pub fn thread(&self) -> i32 {
        self.thread.load(Ordering::Relaxed)
    }

    /// What has been counted up to now.
    pub fn counts(&self) -> ExitCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ExitCounts {
            port: read(&self.port),
            mmio: read(&self.mmio),
            end_of_interrupt: read(&self.end_of_interrupt),
            kicked: read(&self.kicked),
            other: read(&self.other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_counter() {
        let exits = Exits::default();
        for (times, cause) in [
            (1, Cause::Port),
            (2, Cause::Mmio),
            (3, Cause::EndOfInterrupt),
            (4, Cause::Kicked),
            (5, Cause::Other),
        ] {
            (0..times).for_each(|_| exits.count(cause));
        }
        let expected = ExitCounts { port: 1, mmio: 2, end_of_interrupt: 3, kicked: 4, other: 5 };
        assert_eq!(exits.counts(), expected);
    }
}
