//! Who does the work: units of RAM are spread over threads, since what takes time is allocating and zeroing pages, and
//! over NUMA nodes in proportion to what can be pinned there. A page is allocated on the node of the CPU that first touches
//! it, so the threads of a node, and the helpers that they start, run on its CPUs alone.
//!
//! The host's one node, a policy that somebody has set (numactl), and CPUs or memory that a cpuset leaves out stay as they
//! are: where there is nothing to choose, nothing is done.

use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::mapper::Chunk;
use super::plan::SUB_UNIT;
use crate::bytes::MIB;
use crate::residency::{Node, nodes};

/// Smaller units only cost more calls.
const MIN_BALANCED: u64 = 64 * MIB;
/// The memory of a node is zeroed no faster by more threads than this.
const MAX_THREADS: usize = 16;
/// How often progress is told though there is none.
const TICK: Duration = Duration::from_millis(200);

/// A node that this process may use.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its number.
    pub(super) node: u32,
    /// Its CPUs on which this process may run.
    cpus: CpuSet,
    /// Free memory of it that can be pinned, in pages.
    free: u64,
    /// Threads for it.
    threads: usize,
}

/// The nodes over which memory is spread; none if there is nothing to choose.
pub(super) fn places(threads: Option<NonZero<usize>>) -> Vec<Place> {
    let nodes = Node::allowed();
    if nodes.len() < 2 || nodes::has_policy().unwrap_or(true) {
        return Vec::new();
    }
    sched_getaffinity(None).map_or_else(|_| Vec::new(), |cpus| choose(&nodes, &cpus, threads))
}

/// Of `nodes` those that have some of `cpus`.
fn choose(nodes: &[Node], cpus: &CpuSet, threads: Option<NonZero<usize>>) -> Vec<Place> {
    let mut places: Vec<Place> = nodes.iter().filter_map(|node| Place::new(node, cpus)).collect();
    if let Some(threads) = threads.map(NonZero::get) {
        let count = places.len().max(1);
        let share = |(i, place): (usize, &mut Place)| {
            place.threads = threads / count + usize::from(i < threads % count);
        };
        places.iter_mut().enumerate().for_each(share);
    }
    let idle = places.iter().any(|place| place.threads == 0);
    if places.len() < 2 || idle { Vec::new() } else { places }
}

impl Place {
    fn new(node: &Node, allowed: &CpuSet) -> Option<Self> {
        let mut cpus = CpuSet::new();
        let member = |cpu: &usize| allowed.is_set(*cpu) && node.cpus.contains(*cpu as u32);
        (0..CpuSet::MAX_CPU).filter(member).for_each(|cpu| cpus.set(cpu));
        let threads = MAX_THREADS.min(cpus.count() as usize);
        (threads > 0).then_some(Self { node: node.id, cpus, free: node.free, threads })
    }
}

/// Threads, where they run, and what they do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crew<'a> {
    /// Their units.
    pub(super) units: &'a [Chunk],
    threads: usize,
    /// None for anywhere.
    place: Option<&'a Place>,
}

impl<'a> Crew<'a> {
    /// One that works anywhere.
    pub(super) fn anywhere(units: &'a [Chunk], threads: usize) -> Self {
        Self { units, threads, place: None }
    }

    /// The crews for `units`: one for each place that gets any, or a single one of `threads` threads. Units that are bound to a node go to
    /// its place.
    pub(super) fn muster(
        units: &'a [Chunk],
        places: &'a [Place],
        threads: usize,
        bound: impl Fn(&Chunk) -> Option<u32>,
    ) -> Vec<Self> {
        if places.is_empty() {
            return vec![Self::anywhere(units, threads)];
        }
        if units.iter().any(|unit| bound(unit).is_some()) {
            let crew = |units: &'a [Chunk]| {
                let node = units.first().and_then(&bound);
                let place = places.iter().find(|place| Some(place.node) == node);
                Self { units, threads: place.map_or(threads, |place| place.threads), place }
            };
            return units.chunk_by(|unit, next| bound(unit) == bound(next)).map(crew).collect();
        }
        let sizes: Vec<u64> = units.iter().map(|unit| unit.guest.size).collect();
        let free: Vec<u64> = places.iter().map(|place| place.free).collect();
        let crew = |(place, run): (&'a Place, Range<usize>)| {
            let units = units.get(run).filter(|units| !units.is_empty())?;
            Some(Self { units, threads: place.threads, place: Some(place) })
        };
        places.iter().zip(share(&sizes, &free)).filter_map(crew).collect()
    }

    /// The node they allocate on, and how much, in bytes; unless that is left to the kernel.
    pub(super) fn node(&self) -> Option<(u32, u64)> {
        let bytes = self.units.iter().map(|unit| unit.guest.size).sum();
        self.place.map(|place| (place.node, bytes))
    }

    /// Confines this thread, and the processes that it starts, to the crew's node.
    fn settle(&self) {
        let Some(place) = self.place else { return };
        if let Err(error) = sched_setaffinity(None, &place.cpus) {
            tracing::debug!(node = place.node, %error, "cannot run on a NUMA node, memory comes from any");
        }
    }
}

/// Threads of a bring-up: `wanted`, else as many as there are CPUs.
pub(super) fn threads(wanted: Option<NonZero<usize>>, places: &[Place]) -> usize {
    if !places.is_empty() {
        return places.iter().map(|place| place.threads).sum();
    }
    let available = || thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    wanted.map_or_else(available, NonZero::get)
}

/// Which of the parts, `sizes` long, go to which taker: a run for each, as long in proportion as what it has `free`. If
/// none has anything, all runs are as long.
fn share(sizes: &[u64], free: &[u64]) -> Vec<Range<usize>> {
    let nothing = free.iter().all(|free| *free == 0);
    let weight = |free: &u64| if nothing { 1 } else { u128::from(*free) };
    let all_weights: u128 = free.iter().map(weight).sum();
    let total: u128 = sizes.iter().map(|size| u128::from(*size)).sum();
    let (mut start, mut weights, mut done) = (0, 0, 0);
    let mut takers = free.iter().peekable();
    let mut runs = Vec::with_capacity(free.len());
    while let Some(taker) = takers.next() {
        weights += weight(taker);
        let mut end = start;
        // A part goes to whose share its middle lies in; both sides are doubled, and multiplied by what divides them.
        while let Some(size) = sizes.get(end) {
            let middle = 2 * done + u128::from(*size);
            if takers.peek().is_some() && middle * all_weights > 2 * weights * total {
                break;
            }
            done += u128::from(*size);
            end += 1;
        }
        runs.push(start..end);
        start = end;
    }
    runs
}

/// Halves `unit` until there are two for each thread, so that all end at about the same time.
pub(super) fn balanced_unit(total: u64, mut unit: u64, threads: usize) -> u64 {
    let wanted = (threads as u64).saturating_mul(2);
    while unit >= 2 * MIN_BALANCED && total.div_ceil(unit) < wanted {
        unit = (unit / 2).next_multiple_of(SUB_UNIT);
    }
    unit
}

/// Does `work` on the units of all crews, each thread with what `prepare` gives it. Stops at the first error. `collect` is
/// called on this thread, with each result, and now and then without any.
pub(super) fn spread<T: Send, E: Send, W: FnMut(&Chunk) -> Result<T, E>>(
    crews: &[Crew],
    stop: &AtomicBool,
    prepare: impl Fn() -> W + Sync,
    mut collect: impl FnMut(Option<Result<T, E>>),
) {
    let labour = |units: &[Chunk], next: &AtomicUsize, results: Sender<Result<T, E>>| {
        let mut work = prepare();
        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let result = work(unit);
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            // The receiver outlives all workers.
            let _ = results.send(result);
        }
    };
    let labour = &labour;
    let next: Vec<AtomicUsize> = crews.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        let (results, collected) = mpsc::channel();
        let mut left = Vec::new();
        for (crew, next) in crews.iter().zip(&next) {
            let spawned = (0..crew.threads.clamp(1, crew.units.len().max(1))).filter(|_| {
                let results = results.clone();
                let work = move || {
                    crew.settle();
                    labour(crew.units, next, results);
                };
                thread::Builder::new().name("pin".to_owned()).spawn_scoped(scope, work).is_ok()
            });
            if spawned.count() == 0 {
                left.push((crew, next));
            }
        }
        for (crew, next) in left {
            labour(crew.units, next, results.clone());
        }
        drop(results);
        drain(&collected, &mut collect);
    });
}

fn drain<R>(collected: &Receiver<R>, collect: &mut impl FnMut(Option<R>)) {
    loop {
        match collected.recv_timeout(TICK) {
            Ok(result) => collect(Some(result)),
            Err(RecvTimeoutError::Timeout) => collect(None),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
#[path = "crew_test.rs"]
mod tests;
