//! How planning a machine grows with it: where memory lies and is mapped, the units that it is pinned and mapped for devices by, and the ACPI
//! tables, made by the code that makes them for a machine, for larger ones than the machine that measures. Nothing here touches guest
//! memory. What does is added up from what a GiB takes (docs/performance.md).
//!
//! Fails if anything grows faster than the machine does.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use memory::bytes::GIB;
use memory::layout::AddressLimits;
use memory::pin::Chunk;
use memory::{GuestRam, Layout};
use vmm::acpi::AcpiTables;
use vmm::machine::platform;
use vmm::numa::NumaNode;

/// Memory in GiB, vCPUs and NUMA nodes. Each has four times the memory of the one before.
const MACHINES: [(u64, u32, usize); 4] = [(192, 8, 2), (768, 32, 4), (3072, 96, 8), (12288, 288, 16)];
/// Each thing is done so often, and what the quickest took is said: the others measure what else the machine does.
const TIMES: u32 = 20;
/// Of one thread for a GiB of huge pages: to allocate, zero and pin it, to pin it once more for devices, and to look where it lies.
const PIN: Duration = Duration::from_millis(108);
const MAP: Duration = Duration::from_micros(1500);
const CENSUS: Duration = Duration::from_micros(1700);
/// Threads that pin, for each node.
const THREADS: u32 = 16;
/// Growth beyond the machine's that is taken for noise.
const NOISE: f64 = 1.5;

/// What planning a machine took and made.
struct Planned {
    lay_out: Duration,
    map: Duration,
    cut: Duration,
    acpi: Duration,
    units: usize,
    /// Of units and tables.
    bytes: usize,
}

impl Planned {
    fn time(&self) -> Duration {
        self.lay_out + self.map + self.cut + self.acpi
    }
}

/// What the quickest of many tries took, and what it made.
fn quickest<T>(make: impl Fn() -> T) -> (Duration, T) {
    let tries = (0..TIMES).map(|_| {
        let began = Instant::now();
        let made = make();
        (began.elapsed(), made)
    });
    tries.min_by_key(|(took, _)| *took).unwrap()
}

fn plan(gib: u64, cpus: u32, nodes: usize) -> Planned {
    let limits = AddressLimits::cpu_only(46);
    let (lay_out, layout) = quickest(|| Layout::new(gib * GIB, &limits).unwrap());
    let (map, ram) = quickest(|| GuestRam::new(&layout).unwrap());
    let (cut, units) = quickest(|| ram.chunks(GIB));
    let per_node = cpus / nodes as u32;
    let node = |number: u32| NumaNode {
        memory: gib * GIB / nodes as u64,
        cpus: (number * per_node..(number + 1) * per_node).collect(),
        host_node: None,
    };
    let numa: Vec<NumaNode> = (0..nodes as u32).map(node).collect();
    let acpi = || AcpiTables::build(&platform::acpi_spec(&layout, cpus, &numa, 17, true)).unwrap();
    let (acpi, tables) = quickest(acpi);
    let bytes = units.len() * size_of::<Chunk>() + tables.bytes().len();
    Planned { lay_out, map, cut, acpi, units: units.len(), bytes }
}

fn main() -> ExitCode {
    println!(
        "{:>7} {:>6} {:>5} | {:>9} {:>9} {:>9} {:>9} | {:>6} {:>10} | {:>8} {:>8} {:>8}",
        "GiB",
        "vCPUs",
        "nodes",
        "lay out",
        "map",
        "cut",
        "ACPI",
        "units",
        "KiB",
        "pin, s",
        "map, s",
        "census"
    );
    let mut before: Option<(u64, Planned)> = None;
    let mut linear = true;
    for (gib, cpus, nodes) in MACHINES {
        let planned = plan(gib, cpus, nodes);
        let threads = THREADS * nodes as u32;
        let whole = |each: Duration| (each * gib as u32 / threads).as_secs_f64();
        println!(
            "{gib:>7} {cpus:>6} {nodes:>5} | {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} | {:>6} {:>10.1} | {:>8.2} {:>8.2} {:>8.2}",
            planned.lay_out,
            planned.map,
            planned.cut,
            planned.acpi,
            planned.units,
            planned.bytes as f64 / 1024.0,
            whole(PIN),
            whole(MAP),
            whole(CENSUS),
        );
        if let Some((smaller, less)) = &before {
            let machine = gib as f64 / *smaller as f64;
            let time = planned.time().as_secs_f64() / less.time().as_secs_f64();
            let bytes = planned.bytes as f64 / less.bytes as f64;
            linear &= time <= machine * NOISE && bytes <= machine;
        }
        before = Some((gib, planned));
    }
    if linear { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
