//! How planning a machine grows with it: where memory lies and is mapped, the units that it is pinned and mapped for devices by, the
//! ACPI tables, and where the BARs of its devices lie, made by the code that makes them for a machine, for larger ones than the
//! machine that measures. Nothing here touches guest memory. What does is added up from what a GiB takes (docs/performance.md).
//!
//! Fails if anything grows faster than the machine does.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

mod cards;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cards::Maps;
use memory::bytes::GIB;
use memory::layout::AddressLimits;
use memory::pin::Chunk;
use memory::{GuestRam, Layout};
use vmm::acpi::AcpiTables;
use vmm::machine::platform;
use vmm::numa::NumaNode;

/// Memory in GiB, vCPUs, NUMA nodes and devices. Each has four times the memory of the one before.
const MACHINES: [(u64, u32, usize, u8); 4] =
    [(192, 8, 2, 2), (768, 32, 4, 4), (3072, 96, 8, 8), (12288, 288, 16, 16)];
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
    bars: Duration,
    units: usize,
    /// DMA maps, of which all devices have the same: of units of memory, and of BARs, for each other.
    maps: usize,
    /// Of units and tables.
    bytes: usize,
}

impl Planned {
    fn time(&self) -> Duration {
        self.lay_out + self.map + self.cut + self.acpi + self.bars
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

fn plan(gib: u64, cpus: u32, nodes: usize, devices: u8) -> Planned {
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
    let acpi = || {
        AcpiTables::build(&platform::acpi_spec(&layout, cpus, &numa, u16::from(devices) + 1, true)).unwrap()
    };
    let (acpi, tables) = quickest(acpi);
    let (bars, mapped) = quickest(|| {
        let maps = Arc::new(Maps::default());
        let bus = cards::bus(&layout, devices, &maps);
        bus.assign_bars().unwrap();
        maps.count()
    });
    let maps = units.len() + mapped;
    let bytes = units.len() * size_of::<Chunk>() + tables.bytes().len();
    Planned { lay_out, map, cut, acpi, bars, units: units.len(), maps, bytes }
}

fn main() -> ExitCode {
    println!(
        "{:>7} {:>6} {:>5} {:>7} | {:>9} {:>9} {:>9} {:>9} {:>9} | {:>6} {:>6} {:>8} | {:>7} {:>7} {:>7}",
        "GiB",
        "vCPUs",
        "nodes",
        "devices",
        "lay out",
        "map",
        "cut",
        "ACPI",
        "BARs",
        "units",
        "maps",
        "KiB",
        "pin, s",
        "map, s",
        "census"
    );
    let mut before: Option<(u64, Planned)> = None;
    let mut linear = true;
    for (gib, cpus, nodes, devices) in MACHINES {
        let planned = plan(gib, cpus, nodes, devices);
        let threads = THREADS * nodes as u32;
        let whole = |each: Duration, threads: u32| (each * gib as u32 / threads).as_secs_f64();
        println!(
            "{gib:>7} {cpus:>6} {nodes:>5} {devices:>7} | {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?} | {:>6} {:>6} {:>8.1} | {:>7.2} {:>7.2} {:>7.2}",
            planned.lay_out,
            planned.map,
            planned.cut,
            planned.acpi,
            planned.bars,
            planned.units,
            planned.maps,
            planned.bytes as f64 / 1024.0,
            whole(PIN, threads),
            // VFIO maps one at a time (iommu->lock, drivers/vfio/vfio_iommu_type1.c).
            whole(MAP, 1),
            whole(CENSUS, threads),
        );
        if let Some((smaller, less)) = &before {
            let machine = gib as f64 / *smaller as f64;
            let time = planned.time().as_secs_f64() / less.time().as_secs_f64();
            let bytes = planned.bytes as f64 / less.bytes as f64;
            let maps = planned.maps as f64 / less.maps as f64;
            linear &= time <= machine * NOISE && bytes <= machine && maps <= machine;
        }
        before = Some((gib, planned));
    }
    if linear { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
