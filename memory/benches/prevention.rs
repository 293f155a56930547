//! What pinning outside CMA costs where there is no CMA: a whole bring-up, against what other monitors do, which is to
//! populate memory and then have it pinned. Both take the same pages, threads and maps, in turns, each time with fresh
//! memory; the devices' map is an io_uring buffer, which pins through the same function as VFIO (mm/gup.c).
//!
//! `cargo bench -p memory --bench prevention -- [GIB [ROUNDS]]`. This executable is also its pin helper.
//!
//! # Unsafe
//! `madvise(MADV_POPULATE_WRITE)`.
#![expect(unsafe_code, reason = "populates memory")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

mod page_size;

use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memory::GuestRam;
use memory::bytes::{GIB, MIB};
use memory::pin::{Chunk, DmaMapper, HelperCommand, MapError, PinOptions, TrialRing, bring_up, helper};
use memory::residency::Vmstat;
use page_size::{NO_HUGE_PAGES, PageSize};

const HELPER: &str = "pin-helper";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [HELPER, rest @ ..] = arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        let rest: Vec<String> = rest.iter().map(|argument| (*argument).to_owned()).collect();
        helper::serve(&rest).unwrap();
        return;
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let bytes = numbers.next().unwrap_or(1).max(1) * GIB;
    let rounds = numbers.next().unwrap_or(11).max(1);
    println!("{} GiB, {rounds} rounds, median (fastest .. slowest) in ms per GiB\n", bytes / GIB);
    println!("pages  populate and pin           prevent                    added");
    for size in PageSize::ALL {
        match measure(size, bytes, rounds) {
            Some(line) => println!("{:5}  {line}", size.name()),
            None => println!("{:5}  {NO_HUGE_PAGES}", size.name()),
        }
    }
}

fn measure(size: PageSize, bytes: u64, rounds: u64) -> Option<String> {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Whoever comes second might find things warmer.
        let turns: [fn(&GuestRam) -> Duration; 2] =
            if round % 2 == 0 { [populate, prevent] } else { [prevent, populate] };
        let mut took = turns.map(|turn| {
            // A virtual machine may have to get memory from its host first; what was just in use is there.
            populate(&size.ram(bytes));
            let before = Vmstat::read().unwrap();
            let ram = size.ram(bytes);
            let took = turn(&ram);
            size.was_given(&before, bytes).then_some(took)
        });
        if round % 2 == 1 {
            took.reverse();
        }
        let [populated, prevented] = took;
        theirs.push(populated?);
        ours.push(prevented?);
    }
    let ratios: Vec<f64> =
        ours.iter().zip(&theirs).map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
    let added = (median(ratios) - 1.0) * 100.0;
    let figures = |times: &[Duration]| {
        let per_gib = |took: &Duration| took.as_secs_f64() * 1e3 * GIB as f64 / bytes as f64;
        let mut times: Vec<f64> = times.iter().map(per_gib).collect();
        times.sort_by(f64::total_cmp);
        let (first, last) = (times.first().unwrap(), times.last().unwrap());
        format!("{:7.1} ({:.1} .. {:.1})", median(times.clone()), first, last)
    };
    Some(format!("{:26} {:26} {added:+.1} %", figures(&theirs), figures(&ours)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    *values.get(values.len() / 2).unwrap()
}

/// As other monitors do it.
fn populate(ram: &GuestRam) -> Duration {
    let started = Instant::now();
    let units = units(ram);
    let mapper = Mapper::new();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = unit.hva as *mut libc::c_void;
                    // SAFETY: faults pages of a mapping in that `ram` keeps, and leaves their contents alone.
                    let done =
                        unsafe { libc::madvise(start, unit.guest.size as usize, libc::MADV_POPULATE_WRITE) };
                    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
                }
            });
        }
    });
    for unit in &units {
        mapper.map(unit, None).unwrap();
    }
    started.elapsed()
}

/// As vmm does it.
fn prevent(ram: &GuestRam) -> Duration {
    let started = Instant::now();
    let mapper = Mapper::new();
    let options =
        PinOptions { helper: Some(HelperCommand::this_executable(HELPER)), ..PinOptions::default() };
    let report = bring_up(ram, Some(&mapper), &options, &|_| ()).unwrap();
    let took = started.elapsed();
    assert_eq!((report.bytes, report.retries, report.means.bare), (ram.size(), 0, 0), "{report:?}");
    took
}

fn threads() -> usize {
    thread::available_parallelism().unwrap().get().min(16)
}

/// As a bring-up cuts them.
fn units(ram: &GuestRam) -> Vec<Chunk> {
    let mut unit = GIB;
    while unit > 64 * MIB && ram.size().div_ceil(unit) < 2 * threads() as u64 {
        unit /= 2;
    }
    ram.chunks(unit)
}

/// Stands in for the devices' DMA map.
struct Mapper {
    ring: Mutex<TrialRing>,
    used: AtomicU32,
}

impl Mapper {
    fn new() -> Self {
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
