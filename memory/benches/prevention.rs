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
mod turns;

use std::time::{Duration, Instant};

use memory::GuestRam;
use memory::bytes::GIB;
use memory::pin::DmaMapper;
use memory::residency::Vmstat;
use page_size::{NO_HUGE_PAGES, PageSize};
use turns::{Mapper, each_unit, figures, ratio, size_and_rounds, units, vmm, was_helper};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if was_helper(&arguments) {
        return;
    }
    let (bytes, rounds) = size_and_rounds(&arguments);
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
    let added = (ratio(&ours, &theirs) - 1.0) * 100.0;
    Some(format!("{:26} {:26} {added:+.1} %", figures(&theirs, bytes), figures(&ours, bytes)))
}

/// As other monitors do it.
fn populate(ram: &GuestRam) -> Duration {
    let started = Instant::now();
    let mapper = Mapper::new();
    each_unit(ram, |unit| {
        let start = unit.hva as *mut libc::c_void;
        // SAFETY: faults pages of a mapping in that `ram` keeps, and leaves their contents alone.
        let done = unsafe { libc::madvise(start, unit.guest.size as usize, libc::MADV_POPULATE_WRITE) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    });
    for unit in &units(ram) {
        mapper.map(unit, None).unwrap();
    }
    started.elapsed()
}

/// As vmm does it.
fn prevent(ram: &GuestRam) -> Duration {
    vmm(ram, true)
}
