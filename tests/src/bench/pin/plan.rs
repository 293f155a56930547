//! What the campaign starts, where, and under what load.

use crate::host::{HostKernel, HostSpec, NVME};

/// Where a start writes what came of it.
pub(super) const REPORT: &str = "/tmp/report.json";

/// A host on which pages may have to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    /// The lab's kernel; most of its memory is CMA.
    Lab,
    /// Debian's newest, likewise.
    Debian7,
    /// Debian's 6.1, which has no CMA; most of its memory is ZONE_MOVABLE.
    Debian61,
}

/// How a start gets its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// As established monitors do: populate, then one DMA map; the first refusal is the last.
    Others,
    /// Fault in under the pin, so that nothing ever has to move.
    Prevent,
    /// Populate, then move out of CMA what lies there.
    Evict,
    /// The same with contents to be kept and eight pages that cannot be moved, ever.
    Replace,
}

/// The pages memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    Small,
    Huge,
}

/// What else goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Idle,
    /// The page cache is dropped in a loop.
    DropCaches,
    /// All memory is compacted in a loop.
    Compaction,
    /// No huge page is free outside CMA.
    Fragmented,
    /// A neighbour holds so many random pages so long at a time (0: until the end).
    Holders {
        ms: u32,
        pages: u32,
    },
}

/// Pages that nobody lets go of until the start is over.
pub(super) const HELD_FOR_GOOD: Load = Load::Holders { ms: 0, pages: 8 };

/// Starts of one kind, a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) machine: Machine,
    pub(crate) load: Load,
    pub(crate) pages: Pages,
    pub(crate) strategy: Strategy,
    pub(crate) mib: u32,
    pub(crate) starts: u32,
}

impl Machine {
    pub(super) const ALL: [Machine; 3] = [Machine::Lab, Machine::Debian7, Machine::Debian61];

    pub(super) fn name(self) -> &'static str {
        match self {
            Machine::Lab => "lab",
            Machine::Debian7 => "debian-7",
            Machine::Debian61 => "debian-6.1",
        }
    }

    pub(super) fn spec(self) -> HostSpec {
        match self {
            Machine::Lab => HostSpec::default().mostly_cma(),
            Machine::Debian7 => HostSpec::default().kernel(HostKernel::Debian7).mostly_cma(),
            Machine::Debian61 => HostSpec::default().kernel(HostKernel::Debian61).mostly_movable(),
        }
    }

    fn loads(self) -> &'static [Load] {
        match self {
            Machine::Lab => &[
                Load::Idle,
                Load::DropCaches,
                Load::Compaction,
                Load::Fragmented,
                Load::Holders { ms: 2, pages: 1 },
                Load::Holders { ms: 50, pages: 1 },
                Load::Holders { ms: 5000, pages: 1 },
                HELD_FOR_GOOD,
            ],
            Machine::Debian7 | Machine::Debian61 => {
                &[Load::Idle, Load::DropCaches, Load::Holders { ms: 2, pages: 1 }, HELD_FOR_GOOD]
            }
        }
    }

    /// Of so many starts, how many are enough here: other kernels are for comparison.
    fn enough(self, starts: u32) -> u32 {
        match self {
            Machine::Lab => starts,
            Machine::Debian7 | Machine::Debian61 => starts.div_ceil(4),
        }
    }

    /// All that is started here: load by load, for setting one up can take a while.
    pub(super) fn cells(self, starts: u32) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &load in self.loads() {
            for pages in [Pages::Small, Pages::Huge] {
                for strategy in [Strategy::Others, Strategy::Prevent, Strategy::Evict, Strategy::Replace] {
                    let (mib, times) = strategy.size();
                    let starts = self.enough(starts.saturating_mul(times));
                    cells.push(Cell { machine: self, load, pages, strategy, mib, starts });
                }
            }
        }
        cells
    }
}

impl Strategy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Strategy::Others => "as others do",
            Strategy::Prevent => "prevent",
            Strategy::Evict => "evict",
            Strategy::Replace => "copy-replace",
        }
    }

    /// Guest memory in MiB, and how many times as often as the slow ones this is done.
    fn size(self) -> (u32, u32) {
        match self {
            Strategy::Prevent => (64, 8),
            Strategy::Others | Strategy::Evict | Strategy::Replace => (128, 1),
        }
    }
}

impl Pages {
    pub(super) fn name(self) -> &'static str {
        match self {
            Pages::Small => "4K",
            Pages::Huge => "THP",
        }
    }

    /// What `/sys/kernel/mm/transparent_hugepage/shmem_enabled` is to say.
    pub(super) fn shmem_enabled(self) -> &'static str {
        match self {
            Pages::Small => "never",
            Pages::Huge => "always",
        }
    }
}

impl Load {
    pub(super) fn name(self) -> String {
        match self {
            Load::Idle => "idle".to_owned(),
            Load::DropCaches => "drop_caches".to_owned(),
            Load::Compaction => "compaction".to_owned(),
            Load::Fragmented => "fragmented".to_owned(),
            Load::Holders { ms: 0, pages } => format!("{pages} pages held"),
            Load::Holders { ms, .. } if ms >= 1000 => format!("{} s holder", ms / 1000),
            Load::Holders { ms, .. } => format!("{ms} ms holder"),
        }
    }
}

impl Cell {
    /// As in `lab/compaction/4K/prevent`.
    pub(super) fn name(&self) -> String {
        let (machine, load) = (self.machine.name(), self.load.name());
        format!("{machine}/{load}/{}/{}", self.pages.name(), self.strategy.name())
    }

    /// The holders that stand beside each start.
    pub(super) fn holders(&self) -> Vec<(u32, u32)> {
        let own = match self.load {
            Load::Holders { ms, pages } => Some((ms, pages)),
            _ => None,
        };
        let for_good = match HELD_FOR_GOOD {
            Load::Holders { ms, pages } if self.strategy == Strategy::Replace => Some((ms, pages)),
            _ => None,
        };
        let for_good = for_good.filter(|holder| Some(*holder) != own);
        own.into_iter().chain(for_good).collect()
    }

    /// The command of one start, word by word.
    pub(super) fn command(&self) -> Vec<String> {
        let mib = self.mib;
        let how = match self.strategy {
            Strategy::Others => format!("/lab/populate_and_map {mib} {NVME} {REPORT}"),
            Strategy::Prevent => check(mib, ""),
            Strategy::Evict => check(mib, " --prefault populate"),
            Strategy::Replace => check(mib, " --prefault populate --contents"),
        };
        let holders = self.holders().into_iter().map(|(ms, pages)| format!(" {ms} {pages}"));
        let holders: String = holders.collect();
        let line = if holders.is_empty() { how } else { format!("/lab/hold{holders} -- {how}") };
        line.split(' ').map(str::to_owned).collect()
    }
}

fn check(mib: u32, more: &str) -> String {
    format!("vmm check --pin --memory {mib}M --vfio {NVME} --report {REPORT}{more}")
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
