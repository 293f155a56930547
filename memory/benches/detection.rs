//! What it costs to look where pages lie, and to pin pages a second time: per GiB of small pages and of huge ones. The bars
//! are in docs/performance.md, and how to repeat it.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a benchmark")]

mod page_size;

use std::ops::Range;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memory::GuestRam;
use memory::bytes::GIB;
use memory::pin::TrialRing;
use memory::residency::pagemap::Pagemap;
use memory::residency::{CmaArea, CmaAreas, Meminfo, Surveyor, Vmstat, Zones};
use page_size::{NO_HUGE_PAGES, PageSize};

/// A GiB of guest memory that is pinned, for as long as the ring lives.
struct Pinned {
    ram: GuestRam,
    _ring: TrialRing,
}

impl Pinned {
    fn new(size: PageSize) -> Option<Self> {
        let ram = size.ram(GIB);
        let before = Vmstat::read().unwrap();
        let ring = TrialRing::new(1).unwrap();
        ring.pin(0, hva(&ram), GIB).unwrap();
        if !size.was_given(&before, GIB) {
            eprintln!("{}: {NO_HUGE_PAGES}", size.name());
            return None;
        }
        Some(Self { ram, _ring: ring })
    }
}

fn hva(ram: &GuestRam) -> u64 {
    ram.regions().first().unwrap().hva
}

/// Knows areas all over the memory of a large host, so that pages lie in them and between them.
fn surveyor() -> Surveyor {
    let range = |n: u64| -> Range<u64> { n << 16..(n << 16) + (1 << 14) };
    let area = |n| CmaArea { name: format!("area{n}"), ranges: vec![range(n)] };
    let areas = CmaAreas::Known((0..256).map(area).collect());
    Surveyor::with(areas, &Meminfo::read().unwrap(), &Zones::read().unwrap())
}

fn census(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("census of 1 GiB");
    group.throughput(Throughput::Bytes(GIB)).sample_size(20);
    for size in PageSize::ALL {
        let Some(pinned) = Pinned::new(size) else { continue };
        let (surveyor, chunks) = (surveyor(), pinned.ram.chunks(GIB));
        let mut pagemap = Pagemap::open().unwrap();
        group.bench_function(size.name(), |bencher| {
            bencher.iter(|| surveyor.count(&mut pagemap, &chunks).unwrap());
        });
    }
    group.finish();
}

fn second_pin(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("second pin of 1 GiB");
    group.throughput(Throughput::Bytes(GIB)).sample_size(20);
    for size in PageSize::ALL {
        let Some(pinned) = Pinned::new(size) else { continue };
        let ring = TrialRing::new(1).unwrap();
        group.bench_function(size.name(), |bencher| {
            bencher.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let started = Instant::now();
                    ring.pin(0, hva(&pinned.ram), GIB).unwrap();
                    took += started.elapsed();
                    ring.release(0);
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group!(benches, census, second_pin);
criterion_main!(benches);
