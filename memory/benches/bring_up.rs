//! Whether guest memory comes up as fast as the machine gives memory: beside a plain memset of fresh pages of the same kind,
//! by as many threads, and with the devices' map beside without it. In turns, each time with fresh memory. The devices'
//! map is an io_uring buffer, which pins through the same function as VFIO (mm/gup.c).
//!
//! `cargo bench -p memory --bench bring_up -- [GIB [ROUNDS]]`; it fails if a bar is missed. Huge pages of a pool are set aside for it, if it runs
//! as root.
//!
//! # Unsafe
//! Writes to guest memory.
#![expect(unsafe_code, reason = "fills memory")]
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a benchmark")]

mod page_size;
mod pool;
mod turns;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use memory::bytes::{GIB, MIB};
use memory::residency::Vmstat;
use memory::{AddressLimits, Backing, GuestRam, Layout};
use page_size::{NO_HUGE_PAGES, PageSize};
use pool::Pool;
use turns::{each_unit, figures, ratio, size_and_rounds, vmm, was_helper};

/// Of the memset's bandwidth, at least.
const BANDWIDTH: f64 = 0.9;
/// Of the time without devices, at the most.
const DEVICES: f64 = 1.1;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if was_helper(&arguments) {
        return ExitCode::SUCCESS;
    }
    let (bytes, rounds) = size_and_rounds(&arguments);
    println!("{} GiB, {rounds} rounds, median (fastest .. slowest) in ms per GiB\n", bytes / GIB);
    println!(
        "{:6}  {:26} {:26} {:26} bandwidth  devices",
        "pages", "memset", "vmm, no devices", "vmm, with devices"
    );
    let mut missed = Vec::new();
    for pages in Pages::all() {
        match Measured::of(pages, bytes, rounds) {
            Ok(measured) => {
                println!("{:6}  {}", pages.name(), measured.line(bytes));
                missed.extend(measured.missed().map(|bar| format!("{}: {bar}", pages.name())));
            }
            Err(why) => println!("{:6}  {why}", pages.name()),
        }
    }
    missed.iter().for_each(|bar| println!("not as promised: {bar}"));
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What guest memory is made of.
#[derive(Clone, Copy)]
enum Pages {
    Plain(PageSize),
    Pool(u64),
}

impl Pages {
    fn all() -> impl Iterator<Item = Self> {
        PageSize::ALL.map(Self::Plain).into_iter().chain([2 * MIB, GIB].map(Self::Pool))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain(size) => size.name(),
            Self::Pool(GIB) => "1G",
            Self::Pool(_) => "2M",
        }
    }

    fn ram(self, bytes: u64) -> GuestRam {
        match self {
            Self::Plain(size) => size.ram(bytes),
            Self::Pool(page) => {
                let layout = Layout::new(bytes, &AddressLimits::cpu_only(40)).unwrap();
                GuestRam::backed(&layout, Backing::HugePages { page }).unwrap()
            }
        }
    }

    fn was_given(self, before: &Vmstat, bytes: u64) -> bool {
        match self {
            Self::Plain(size) => size.was_given(before, bytes),
            Self::Pool(_) => true,
        }
    }
}

/// What the turns took, round by round.
#[derive(Default)]
struct Measured {
    memset: Vec<Duration>,
    alone: Vec<Duration>,
    devices: Vec<Duration>,
}

impl Measured {
    fn of(pages: Pages, bytes: u64, rounds: u64) -> Result<Self, String> {
        let pool = match pages {
            Pages::Plain(_) => None,
            Pages::Pool(page) => Some((Pool::with(page, bytes)?, bytes / page)),
        };
        let mut measured = Self::default();
        for round in 0..rounds {
            // Whoever comes later might find things warmer.
            for turn in 0..3 {
                let (took, turn): (&mut Vec<Duration>, fn(&GuestRam) -> Duration) = match (round + turn) % 3 {
                    0 => (&mut measured.memset, memset),
                    1 => (&mut measured.alone, |ram| vmm(ram, false)),
                    _ => (&mut measured.devices, |ram| vmm(ram, true)),
                };
                let settle = || pool.as_ref().map(|(pool, need)| pool.settled(*need));
                settle();
                // A virtual machine may have to get memory from its host first; what was just in use is there.
                memset(&pages.ram(bytes));
                settle();
                let before = Vmstat::read().unwrap();
                let ram = pages.ram(bytes);
                took.push(turn(&ram));
                if !pages.was_given(&before, bytes) {
                    return Err(NO_HUGE_PAGES.to_owned());
                }
            }
        }
        Ok(measured)
    }

    /// Of the memset's.
    fn bandwidth(&self) -> f64 {
        ratio(&self.memset, &self.alone)
    }

    /// Of the time without them.
    fn with_devices(&self) -> f64 {
        ratio(&self.devices, &self.alone)
    }

    fn line(&self, bytes: u64) -> String {
        let [memset, alone, devices] =
            [&self.memset, &self.alone, &self.devices].map(|times| figures(times, bytes));
        let (bandwidth, with) = (self.bandwidth(), self.with_devices());
        format!("{memset:26} {alone:26} {devices:26} {bandwidth:9.2}  {with:7.2}")
    }

    fn missed(&self) -> impl Iterator<Item = String> {
        let (bandwidth, with) = (self.bandwidth(), self.with_devices());
        let slow = (bandwidth < BANDWIDTH)
            .then(|| format!("{bandwidth:.2} of the memset's bandwidth, the bar is {BANDWIDTH}"));
        let dear = (with > DEVICES)
            .then(|| format!("with devices {with:.2} of the time without, the bar is {DEVICES}"));
        slow.into_iter().chain(dear)
    }
}

fn memset(ram: &GuestRam) -> Duration {
    let started = Instant::now();
    each_unit(ram, |unit| {
        // SAFETY: writes to a mapping that `ram` keeps and nobody else looks at.
        unsafe { std::ptr::write_bytes(unit.hva as *mut u8, 0x5a, unit.guest.size as usize) };
    });
    started.elapsed()
}
