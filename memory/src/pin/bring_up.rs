//! The bring-up: all RAM pinned outside CMA and ZONE_MOVABLE and mapped for the devices, or nothing of it.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::admit::{AdmitError, admit_more, admit_rest};
use super::crew::{Crew, balanced_unit, places, spread, threads};
use super::errors::PinError;
use super::escalate::RootHelp;
use super::helper::HelperCommand;
use super::holders;
use super::kernel::{Host, Kernel};
use super::mapper::{Chunk, DmaMapper};
use super::plan::{SUB_UNIT, cut, fit};
use super::report::{Culprit, Means, PinReport, Times};
use super::trial::MAX_TRIAL;
use super::turn::Turn;
use super::unit::RetryPolicy;
use super::worker::{Done, Shared, Worker};
use crate::bytes::{GIB, MIB};
use crate::residency::{Surveyor, Tally};
use crate::{GuestRam, PAGE_SIZE, ram};

/// How a bring-up goes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinOptions {
    /// What is pinned and mapped in one go, in bytes, at most; no more than 1 GiB. Less is taken, down to 64 MiB,
    /// where threads would otherwise stand idle; more, where the mapper has no room for so many maps.
    pub unit: u64,
    /// The same where pages may have to be moved, in bytes: what the kernel may take `stall` for without a sign of
    /// getting on.
    pub step: u64,
    /// The same where there is no trial pin, in bytes: a refused map gets no further than its first culprit. More is
    /// taken where the mapper has no room for so many maps.
    pub bare: u64,
    /// How much time may be lost to causes that pass, by each thread: pinning takes no longer than it would undisturbed,
    /// and this.
    pub deadline: Duration,
    /// Threads at the most; `None` for as many as there are CPUs to run on, up to 16 for each NUMA node.
    pub threads: Option<NonZero<usize>>,
    /// Whether RAM is populated beforehand, as other monitors do it. It then has to be moved out of CMA.
    pub populate: bool,
    /// Whether pages are counted by where they lie.
    pub verify: bool,
    /// After how many refusals the pages of a culprit are replaced by new ones with the same contents. `None` while
    /// a vCPU, a device or another process may write to the memory.
    pub replace_after: Option<u32>,
    /// What root may do about a culprit before that.
    pub root_help: Vec<RootHelp>,
    /// How long a trial pin may take without allocating pages before the process that takes it is killed.
    pub stall: Duration,
    /// How to start the processes that take trial pins; `None` to take them in this one.
    pub helper: Option<HelperCommand>,
    /// Whether other starts on this host are waited for.
    pub take_turns: bool,
}

impl Default for PinOptions {
    fn default() -> Self {
        Self {
            unit: GIB,
            step: 8 * MIB,
            bare: 64 * MIB,
            deadline: Duration::from_secs(10),
            threads: None,
            populate: false,
            verify: true,
            replace_after: Some(6),
            root_help: Vec::new(),
            stall: Duration::from_secs(5),
            helper: None,
            take_turns: false,
        }
    }
}

/// What a bring-up is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waiting for another start on this host to be done.
    WaitingForTurn,
    /// Populating RAM.
    Populating,
    /// Pinning it.
    Pinning,
}

/// How far a bring-up is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is going on.
    pub step: Step,
    /// Done so far.
    pub done: u64,
    /// To be done.
    pub total: u64,
    /// Refusals so far.
    pub retries: u64,
    /// How long the step has taken so far.
    pub elapsed: Duration,
}

/// Pins all of `ram` and maps it with `mapper`, IOVA = GPA. Without a mapper memory is only faulted in, outside
/// CMA and ZONE_MOVABLE. `progress` is called from this thread, now and then.
///
/// Memory that is untouched never has to be moved, so call it early, and with an IOMMU domain attached to the
/// mapper: without one the kernel does not pin.
///
/// # Errors
/// Part of the memory cannot be pinned. Nothing is mapped or pinned then.
pub fn bring_up(
    ram: &GuestRam,
    mapper: Option<&dyn DmaMapper>,
    options: &PinOptions,
    progress: &dyn Fn(Progress),
) -> Result<PinReport, PinError> {
    attempt(ram, &Part::All, mapper, options, progress).inspect(PinReport::note).inspect_err(PinError::note)
}

/// The same for `blocks` of the memory that can be plugged into `ram`, each of which is one map, so that it can be taken out alone.
///
/// # Errors
/// As there.
pub fn bring_up_blocks(
    ram: &GuestRam,
    blocks: &[Chunk],
    mapper: Option<&dyn DmaMapper>,
    options: &PinOptions,
) -> Result<PinReport, PinError> {
    attempt(ram, &Part::Blocks(blocks), mapper, options, &|_| ())
}

/// The same for a piece of the RAM that the guest has, for devices that reach this much of it. The guest may use it meanwhile.
///
/// # Errors
/// As there.
pub fn bring_up_piece(
    ram: &GuestRam,
    piece: &Chunk,
    mapper: &dyn DmaMapper,
    options: &PinOptions,
) -> Result<PinReport, PinError> {
    attempt(ram, &Part::Piece(piece), Some(mapper), options, &|_| ()).inspect_err(PinError::note)
}

/// What of guest memory is brought up.
enum Part<'a> {
    /// What a guest has from the start.
    All,
    /// Blocks that are plugged in.
    Blocks(&'a [Chunk]),
    /// A piece of what it has from the start.
    Piece(&'a Chunk),
}

impl Part<'_> {
    fn bytes(&self, ram: &GuestRam) -> u64 {
        match self {
            Self::All => ram.size(),
            Self::Blocks(blocks) => blocks.iter().map(|block| block.guest.size).sum(),
            Self::Piece(piece) => piece.guest.size,
        }
    }

    fn units(&self, ram: &GuestRam, unit: u64) -> Vec<Chunk> {
        match self {
            Self::All => ram.chunks(unit),
            Self::Blocks(blocks) => blocks.to_vec(),
            Self::Piece(piece) => cut(piece, unit),
        }
    }

    fn admit(&self, ram: &GuestRam) -> Vec<AdmitError> {
        match self {
            Self::All => admit_rest(ram),
            Self::Blocks(_) => admit_more(ram, self.bytes(ram)),
            // Its pages may be there already, and pinned, too.
            Self::Piece(_) => Vec::new(),
        }
    }
}

/// Whether the mapper has room for the maps that RAM takes at the least.
///
/// # Errors
/// [`PinError::NoRoom`]: it has not.
pub fn check_room(ram: &GuestRam, mapper: &dyn DmaMapper) -> Result<(), PinError> {
    unit_with_room(ram, &Part::All, Some(mapper), MAX_TRIAL).map(drop)
}

/// `unit`, or more bytes where the mapper has no room for so many maps: a container takes so many and no more.
fn unit_with_room(
    ram: &GuestRam,
    part: &Part,
    mapper: Option<&dyn DmaMapper>,
    unit: u64,
) -> Result<u64, PinError> {
    let room = mapper.and_then(DmaMapper::room);
    let count = |unit| part.units(ram, unit).len() as u64;
    fit(room, unit, MAX_TRIAL, count).map_err(|need| PinError::NoRoom { need, room: room.unwrap_or(0) })
}

fn attempt(
    ram: &GuestRam,
    part: &Part,
    mapper: Option<&dyn DmaMapper>,
    options: &PinOptions,
    progress: &dyn Fn(Progress),
) -> Result<PinReport, PinError> {
    let started = Instant::now();
    let total = part.bytes(ram);
    let step = |step, done, retries, since: Instant| {
        progress(Progress { step, done, total, retries, elapsed: since.elapsed() });
    };
    let _turn = options.take_turns.then(|| Turn::take(&|| step(Step::WaitingForTurn, 0, 0, started)));
    let waited = started.elapsed();
    // Whoever had the turn before may have taken the memory.
    if mapper.is_some()
        && let Some(error) = part.admit(ram).into_iter().next()
    {
        return Err(error.into());
    }
    let surveyor = Surveyor::new();
    let places = places(options.threads);
    let threads = threads(options.threads, &places);
    let unit = options.unit.clamp(SUB_UNIT, MAX_TRIAL).next_multiple_of(SUB_UNIT);
    let unit = unit_with_room(ram, part, mapper, balanced_unit(total, unit, threads))?;
    let units = part.units(ram, unit);
    let crews = Crew::muster(&units, &places, threads, |unit| ram.bound_to(unit.guest));
    tracing::info!(
        bytes = total,
        units = units.len(),
        threads,
        nodes = places.len().max(1),
        devices = mapper.is_some(),
        populate = options.populate,
        "bringing guest memory up"
    );
    let populating = Instant::now();
    if options.populate {
        populate(&crews, &|done| step(Step::Populating, done, 0, populating))?;
    }
    let populated = populating.elapsed();
    let host = Host::new(ram, options);
    let pinning = Instant::now();
    let told = |done, retries| step(Step::Pinning, done, retries, pinning);
    match run(&host, &surveyor, &crews, mapper, options, &told) {
        Ok(mut report) => {
            report.times.waited = waited;
            report.times.populating = populated;
            Ok(report)
        }
        Err(PinError::Refused { guest, culprits, cause, attempts, elapsed, census, refusal, .. }) => {
            let holders = if cause.has_holders() { holders::find(ram.file()) } else { Vec::new() };
            Err(PinError::Refused { guest, culprits, cause, attempts, elapsed, census, holders, refusal })
        }
        Err(error) => Err(error),
    }
}

/// Faults all units in, wherever their pages come to lie.
fn populate(crews: &[Crew], progress: &dyn Fn(u64)) -> Result<(), PinError> {
    let stop = AtomicBool::new(false);
    let work = || {
        |unit: &Chunk| match ram::populate(unit) {
            Ok(()) => Ok(unit.guest.size),
            Err(source) => Err(PinError::Populate { guest: unit.guest, source }),
        }
    };
    let (mut done, mut result) = (0, Ok(()));
    spread(crews, &stop, work, |outcome: Option<Result<u64, PinError>>| {
        match outcome {
            Some(Ok(bytes)) => done += bytes,
            Some(Err(error)) if result.is_ok() => result = Err(error),
            Some(Err(_)) | None => (),
        }
        progress(done);
    });
    result
}

pub(super) fn run(
    kernel: &dyn Kernel,
    surveyor: &Surveyor,
    crews: &[Crew],
    mapper: Option<&dyn DmaMapper>,
    options: &PinOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<PinReport, PinError> {
    let sizes = || crews.iter().flat_map(|crew| crew.units).map(|unit| unit.guest.size);
    let total = sizes().sum();
    let size = sizes().max().unwrap_or(0);
    let room = mapper.and_then(DmaMapper::room);
    let maps = |bare| sizes().map(|size| size.div_ceil(bare)).sum();
    let bare = fit(room, options.bare.max(SUB_UNIT), size.max(SUB_UNIT), maps);
    let shared = Shared {
        kernel,
        mapper,
        surveyor,
        policy: RetryPolicy {
            deadline: options.deadline,
            // A pool's pages are not written to by way of the file (fs/hugetlbfs/inode.c has no write).
            replace_after: options.replace_after.filter(|_| !kernel.takes_from_pool()),
            root_help: !options.root_help.is_empty(),
        },
        step: options.step,
        bare: bare.unwrap_or(size),
        ram_bytes: total,
        verify: options.verify,
        stop: AtomicBool::new(false),
        retries: AtomicU64::new(0),
        mapped: Mutex::new(Vec::new()),
    };
    let started = kernel.now();
    let before = kernel.counters();
    let free = surveyor.free();
    let work = || {
        let mut worker = Worker::new(&shared, size);
        move |unit: &Chunk| worker.bring_up(unit)
    };
    let mut summary = Summary::default();
    spread(crews, &shared.stop, work, |outcome| {
        if let Some(result) = outcome.and_then(Result::transpose) {
            summary.add(result);
        }
        progress(summary.bytes, shared.retries.load(Ordering::Relaxed));
    });
    let mut mapped = shared.mapped.into_inner().unwrap_or_else(PoisonError::into_inner);
    mapped.sort_unstable_by_key(|chunk| chunk.offset);
    if let Some(error) = summary.error {
        if let Some(mapper) = mapper {
            unmap(mapper, &mapped);
        }
        return Err(error);
    }
    let counters = kernel.counters().zip(before).map(|(after, before)| after.since(&before));
    let moved = counters.map_or(0, |counters| counters.pgmigrate_success);
    summary.culprits.sort_unstable_by_key(|culprit| culprit.guest.start);
    Ok(PinReport {
        bytes: total,
        pages: total / PAGE_SIZE,
        mapped,
        found: summary.found.map(|tally| surveyor.conclude_with(&tally, free)),
        census: options
            .verify
            .then(|| surveyor.conclude_with(&summary.tally, surveyor.free().with_moved(moved))),
        counters,
        retries: summary.retries,
        culprits: summary.culprits,
        means: summary.means,
        nodes: crews.iter().filter_map(Crew::node).collect(),
        times: Times { pinning: kernel.now().saturating_sub(started), ..Times::default() },
    })
}

/// What came of all units.
#[derive(Default)]
struct Summary {
    bytes: u64,
    retries: u64,
    tally: Tally,
    found: Option<Tally>,
    means: Means,
    culprits: Vec<Culprit>,
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
                if let Some(found) = done.found {
                    self.found.get_or_insert_default().add(&found);
                }
                self.means.add(done.pinner, done.bytes, done.passed_over);
                let culprit = |(guest, it): (_, super::unit::Resolved)| Culprit {
                    guest,
                    refusals: it.refusals,
                    replaced: it.replaced,
                };
                self.culprits.extend(done.resolved.into_iter().map(culprit));
            }
            Err(error) if self.error.is_none() => self.error = Some(error),
            Err(error) => tracing::debug!(%error, "another unit failed as well"),
        }
    }
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
