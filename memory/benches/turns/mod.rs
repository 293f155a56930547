//! What is done with fresh guest memory in turns, by as many threads each time. Shared by the benchmarks that bring memory up; the
//! executable of each is also its pin helper.

use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memory::GuestRam;
use memory::bytes::{GIB, MIB};
use memory::pin::{Chunk, DmaMapper, HelperCommand, MapError, PinOptions, TrialRing, bring_up, helper};

const HELPER: &str = "pin-helper";

/// Serves as the pin helper, if that is what this process was started for.
pub(crate) fn was_helper(arguments: &[String]) -> bool {
    let Some((HELPER, rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) else {
        return false;
    };
    helper::serve(rest).unwrap();
    true
}

/// GiB and rounds, as typed.
pub(crate) fn size_and_rounds(arguments: &[String]) -> (u64, u64) {
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    (numbers.next().unwrap_or(1).max(1) * GIB, numbers.next().unwrap_or(11).max(1))
}

/// Does something with all units of `ram`.
pub(crate) fn each_unit(ram: &GuestRam, work: impl Fn(&Chunk) + Sync) {
    let units = units(ram);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(unit);
                }
            });
        }
    });
}

/// As vmm does it, with devices that memory is mapped for or without.
pub(crate) fn vmm(ram: &GuestRam, devices: bool) -> Duration {
    let started = Instant::now();
    let mapper = devices.then(Mapper::new);
    let options =
        PinOptions { helper: Some(HelperCommand::this_executable(HELPER)), ..PinOptions::default() };
    let mapper = mapper.as_ref().map(|mapper| mapper as &dyn DmaMapper);
    let report = bring_up(ram, mapper, &options, &|_| ()).unwrap();
    let took = started.elapsed();
    assert_eq!((report.bytes, report.retries, report.means.bare), (ram.size(), 0, 0), "{report:?}");
    took
}

fn threads() -> usize {
    thread::available_parallelism().unwrap().get().min(16)
}

/// As a bring-up cuts them.
pub(crate) fn units(ram: &GuestRam) -> Vec<Chunk> {
    let mut unit = GIB;
    while unit > 64 * MIB && ram.size().div_ceil(unit) < 2 * threads() as u64 {
        unit /= 2;
    }
    ram.chunks(unit)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    *values.get(values.len() / 2).unwrap()
}

/// The median of what `bytes` of memory took, the least and the most, in ms per GiB.
pub(crate) fn figures(times: &[Duration], bytes: u64) -> String {
    let per_gib = |took: &Duration| took.as_secs_f64() * 1e3 * GIB as f64 / bytes as f64;
    let mut times: Vec<f64> = times.iter().map(per_gib).collect();
    times.sort_by(f64::total_cmp);
    let (first, last) = (times.first().unwrap(), times.last().unwrap());
    format!("{:7.1} ({:.1} .. {:.1})", median(times.clone()), first, last)
}

/// The median of what one turn takes of another, over the rounds.
pub(crate) fn ratio(of: &[Duration], to: &[Duration]) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| of.as_secs_f64() / to.as_secs_f64()).collect())
}

/// Stands in for the devices' DMA map.
pub(crate) struct Mapper {
    ring: Mutex<TrialRing>,
    used: AtomicU32,
}

impl Mapper {
    pub(crate) fn new() -> Self {
        Self { ring: Mutex::new(TrialRing::new(4096).unwrap()), used: AtomicU32::new(0) }
    }
}

impl DmaMapper for Mapper {
    fn map(&self, chunk: &Chunk, _: Option<BorrowedFd<'_>>) -> Result<(), MapError> {
        let slot = self.used.fetch_add(1, Ordering::Relaxed);
        let pinned = self.ring.lock().unwrap().pin(slot, chunk.hva, chunk.guest.size);
        pinned.map_err(|source| MapError {
            call: "IORING_REGISTER_BUFFERS_UPDATE",
            guest: chunk.guest,
            source,
        })
    }

    fn unmap(&self, _: &Chunk) -> Result<(), MapError> {
        Ok(())
    }
}
