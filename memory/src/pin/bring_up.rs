//! The bring-up: all RAM pinned outside CMA and ZONE_MOVABLE and mapped for the devices, or nothing of it.
//!
//! Units of RAM are spread over threads, since what takes time is allocating and zeroing their pages.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::errors::PinError;
use super::kernel::{Host, Kernel};
use super::mapper::{Chunk, DmaMapper};
use super::report::{PinReport, TrialKind};
use super::trial::MAX_TRIAL;
use super::unit::RetryPolicy;
use super::worker::{Done, Shared, Worker};
use crate::bytes::{GIB, MIB};
use crate::residency::{Surveyor, Tally};
use crate::{GuestRam, PAGE_SIZE};

/// Smaller units only cost more calls.
const MIN_BALANCED: u64 = 64 * MIB;

/// How a bring-up goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinOptions {
    /// What is pinned and mapped in one go, in bytes, at most; no more than 1 GiB. Less is taken, down to 64 MiB,
    /// where threads would otherwise stand idle.
    pub unit: u64,
    /// The same where there is no trial pin, in bytes.
    pub bare_unit: u64,
    /// How long the kernel may go on refusing a unit for causes that pass.
    pub deadline: Duration,
    /// Threads at the most; `None` for as many as there are CPUs to run on.
    pub threads: Option<NonZero<usize>>,
}

impl Default for PinOptions {
    fn default() -> Self {
        Self { unit: GIB, bare_unit: 64 * MIB, deadline: Duration::from_secs(10), threads: None }
    }
}

/// How far a bring-up is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pinned so far.
    pub done: u64,
    /// To be pinned.
    pub total: u64,
}

/// Pins all of `ram` and maps it with `mapper`, IOVA = GPA. Without a mapper memory is only faulted in, outside
/// CMA and ZONE_MOVABLE. `progress` is called from this thread.
///
/// Call it while the memory is untouched and the mapper has an IOMMU domain attached: without one the kernel does
/// not pin.
///
/// # Errors
/// Part of the memory cannot be pinned. Nothing is mapped or pinned then.
pub fn bring_up(
    ram: &GuestRam,
    mapper: Option<&dyn DmaMapper>,
    options: &PinOptions,
    progress: &dyn Fn(Progress),
) -> Result<PinReport, PinError> {
    let unit = balanced_unit(ram.size(), options.unit.min(MAX_TRIAL), threads(options));
    let report = run(&Host::new(), &ram.chunks(unit), mapper, options, progress)?;
    if let TrialKind::DmaMap { reason } = &report.trial {
        tracing::warn!(reason, "no trial pins, the DMA map itself pins guest memory");
    }
    Ok(report)
}

fn threads(options: &PinOptions) -> usize {
    let available = || thread::available_parallelism().map_or(1, NonZero::get);
    options.threads.map_or_else(available, NonZero::get)
}

/// Halves `unit` until there are two for each thread, so that all end at about the same time.
fn balanced_unit(total: u64, mut unit: u64, threads: usize) -> u64 {
    let wanted = (threads as u64).saturating_mul(2);
    while unit >= 2 * MIN_BALANCED && total.div_ceil(unit) < wanted {
        unit /= 2;
    }
    unit
}

pub(super) fn run(
    kernel: &dyn Kernel,
    units: &[Chunk],
    mapper: Option<&dyn DmaMapper>,
    options: &PinOptions,
    progress: &dyn Fn(Progress),
) -> Result<PinReport, PinError> {
    let surveyor = Surveyor::new();
    let total = units.iter().map(|unit| unit.guest.size).sum();
    let shared = Shared {
        kernel,
        mapper,
        surveyor: &surveyor,
        policy: RetryPolicy { deadline: options.deadline },
        bare_unit: options.bare_unit,
        ram_bytes: total,
        stop: AtomicBool::new(false),
        mapped: Mutex::new(Vec::new()),
    };
    let started = kernel.now();
    let before = kernel.counters();
    let summary = spread(&shared, units, threads(options), &|done| progress(Progress { done, total }));
    let mut mapped = shared.mapped.into_inner().unwrap_or_else(PoisonError::into_inner);
    mapped.sort_unstable_by_key(|chunk| chunk.offset);
    if let Some(error) = summary.error {
        if let Some(mapper) = mapper {
            unmap(mapper, &mapped);
        }
        return Err(error);
    }
    Ok(PinReport {
        bytes: total,
        pages: total / PAGE_SIZE,
        mapped,
        census: surveyor.conclude(&summary.tally),
        counters: kernel.counters().zip(before).map(|(after, before)| after.since(&before)),
        retries: summary.retries,
        elapsed: kernel.now().saturating_sub(started),
        trial: summary.bare.map_or(TrialKind::IoUring, |reason| TrialKind::DmaMap { reason }),
    })
}

/// What came of all units.
#[derive(Default)]
struct Summary {
    bytes: u64,
    retries: u64,
    tally: Tally,
    bare: Option<String>,
    /// The first error; units that fail after it are of no more interest.
    error: Option<PinError>,
}

impl Summary {
    fn add(&mut self, result: Result<Done, PinError>) {
        match result {
            Ok(done) => {
                self.bytes += done.bytes;
                self.retries += u64::from(done.retries);
                self.tally.add(&done.tally);
                self.bare = self.bare.take().or(done.bare);
            }
            Err(error) if self.error.is_none() => self.error = Some(error),
            Err(error) => tracing::debug!(%error, "another unit failed as well"),
        }
    }
}

/// Brings all units up on several threads. Stops at the first error.
fn spread(shared: &Shared, units: &[Chunk], threads: usize, progress: &dyn Fn(u64)) -> Summary {
    let threads = threads.clamp(1, units.len().max(1));
    let next = AtomicUsize::new(0);
    let work = |results: Sender<Result<Done, PinError>>| {
        let size = units.iter().map(|unit| unit.guest.size).max().unwrap_or(0);
        let mut worker = Worker::new(shared, size);
        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let result = worker.bring_up(unit);
            if result.is_err() {
                shared.stop.store(true, Ordering::Relaxed);
            }
            // The receiver outlives all workers.
            let _ = results.send(result);
        }
    };
    thread::scope(|scope| {
        let (results, collected) = mpsc::channel();
        let spawned = (0..threads).filter(|_| {
            let results = results.clone();
            let builder = thread::Builder::new().name("pin".to_owned());
            builder.spawn_scoped(scope, || work(results)).is_ok()
        });
        if spawned.count() == 0 {
            work(results);
        } else {
            drop(results);
        }
        collect(collected, progress)
    })
}

fn collect(results: Receiver<Result<Done, PinError>>, progress: &dyn Fn(u64)) -> Summary {
    let mut summary = Summary::default();
    for result in results {
        summary.add(result);
        progress(summary.bytes);
    }
    summary
}

/// Takes back what a failed bring-up has mapped, last first.
fn unmap(mapper: &dyn DmaMapper, mapped: &[Chunk]) {
    for chunk in mapped.iter().rev() {
        if let Err(error) = mapper.unmap(chunk) {
            tracing::error!(%error, "unmapping guest memory after a failed start");
        }
    }
}

#[cfg(test)]
#[path = "bring_up_test.rs"]
mod tests;
