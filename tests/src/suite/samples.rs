//! Where the CPUs of a host are, seen again and again through its QEMU: in a kernel, or in a guest's.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// How often it is looked, as a CPU is in its guest for a part of the time only.
pub(super) const COUNT: usize = 40;
/// In so many of them a CPU has to be seen to spin: for a moment the host's own CPUs wait for locks, too.
const ENOUGH: usize = 10;
/// Places that are shown.
const SHOWN: usize = 6;

/// Where a kernel waits for a lock, for the end of a handler, and for whoever sets the clock.
const SPINS: [&str; 3] =
    ["queued_spin_lock_slowpath", "irq_wait_on_inprogress", "ktime_get_update_offsets_now"];
/// A place is no further than this from the symbol before it.
const REACH: u64 = 0x1000;

/// A command that prints these of the kernel it runs under, as lines of address, kind and name, and what comes after each.
pub(super) fn spins_here() -> String {
    format!("grep -wE -A 1 '{}' /proc/kallsyms", SPINS.join("|"))
}

/// What was seen.
pub(super) struct Samples {
    /// Names by their addresses, of each kernel that may be running.
    kernels: Vec<BTreeMap<u64, String>>,
    /// How often a CPU was at a symbol, with interrupts off or on.
    seen: BTreeMap<(String, Interrupts), usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Interrupts {
    Off,
    On,
}

impl Samples {
    /// None yet. `tables` are the symbols of each kernel that may be running, as lines of address, kind and name.
    pub(super) fn new(tables: &[&str]) -> Samples {
        let symbol = |line: &str| {
            let mut words = line.split_whitespace();
            let (address, name) = (words.next()?, words.nth(1)?);
            Some((u64::from_str_radix(address, 16).ok()?, name.to_owned()))
        };
        let kernels = tables.iter().map(|table| table.lines().filter_map(symbol).collect()).collect();
        Samples { kernels, seen: BTreeMap::new() }
    }

    /// Adds where the CPUs are, as QEMU shows their registers. One that sleeps is left out.
    pub(super) fn add(&mut self, registers: &str) {
        for line in registers.lines().filter_map(|line| line.strip_prefix("RIP=")) {
            let mut words = line.split([' ', '=']);
            let mut hex = || words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
            let (Some(at), _, Some(flags)) = (hex(), hex(), hex()) else { continue };
            if line.contains("HLT=1") {
                continue;
            }
            // Bit 9 is IF.
            let interrupts = if flags >> 9 & 1 == 0 { Interrupts::Off } else { Interrupts::On };
            *self.seen.entry((self.name(at), interrupts)).or_default() += 1;
        }
    }

    /// Whether a CPU waits with its interrupts off, so often that nobody will come.
    pub(super) fn show_spinning(&self) -> bool {
        let spins =
            |place: &&(String, Interrupts)| SPINS.contains(&place.0.as_str()) && place.1 == Interrupts::Off;
        let times = self.seen.iter().filter(|(place, _)| spins(place)).map(|(_, count)| *count);
        times.sum::<usize>() >= ENOUGH
    }

    /// A place where one of the kernels waits, or else what the first calls it that knows it.
    fn name(&self, at: u64) -> String {
        let near = |kernel: &BTreeMap<u64, String>| {
            let (symbol, name) = kernel.range(..=at).next_back()?;
            (at - symbol < REACH).then(|| name.clone())
        };
        let names: Vec<String> = self.kernels.iter().filter_map(near).collect();
        let spin = names.iter().find(|name| SPINS.contains(&name.as_str()));
        spin.or(names.first()).cloned().unwrap_or_else(|| format!("{at:#x}"))
    }
}

impl Display for Samples {
    /// The places that were seen most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seen: Vec<_> = self.seen.iter().collect();
        seen.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        write!(f, "[in {COUNT} looks CPUs were at")?;
        for ((name, interrupts), count) in seen.into_iter().take(SHOWN) {
            let off = if *interrupts == Interrupts::Off { " with interrupts off" } else { "" };
            write!(f, ", {count} times {name}{off}")?;
        }
        writeln!(f, "]")
    }
}

#[cfg(test)]
#[path = "samples_test.rs"]
mod tests;
