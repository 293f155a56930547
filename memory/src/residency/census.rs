//! The census: pages of guest RAM by what kind of host memory they lie in.

use std::io;

use super::pagemap::{Page, Pagemap};
use super::{CmaAreas, Meminfo, PfnRange, Zones};
use crate::PAGE_SIZE;
use crate::pin::Chunk;

/// What a census rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The frame number of every page, against exactly known ranges.
    Pfn,
    /// The host has neither CMA nor ZONE_MOVABLE, so no page can lie there.
    NothingMovable,
    /// An estimate: by how much free CMA and free ZONE_MOVABLE memory shrank until then, host-wide.
    CmaFreeEstimate {
        /// Why it is no better than that.
        reason: String,
    },
}

/// Pages of guest RAM by what they lie in. With [`Basis::CmaFreeEstimate`] the split between `normal`, `cma` and
/// `movable` is an estimate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// All pages asked about.
    pub total_pages: u64,
    /// Pages in memory that can be pinned.
    pub normal: u64,
    /// Pages in CMA areas, by area; areas without any are left out.
    pub cma: Vec<(String, u64)>,
    /// Pages in ZONE_MOVABLE outside CMA.
    pub movable: u64,
    /// Pages not there yet.
    pub absent: u64,
    /// How this is known.
    pub basis: Basis,
}

impl Census {
    /// Pages in CMA areas.
    pub fn in_cma(&self) -> u64 {
        self.cma.iter().map(|(_, pages)| pages).sum()
    }

    /// Whether the figures are exact.
    pub fn is_exact(&self) -> bool {
        !matches!(self.basis, Basis::CmaFreeEstimate { .. })
    }
}

/// Counts of a part of the pages; parts counted apart are added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    normal: u64,
    cma: Vec<u64>,
    movable: u64,
    absent: u64,
    hidden: u64,
}

impl Tally {
    /// Adds what another part counted.
    pub fn add(&mut self, other: &Self) {
        self.normal += other.normal;
        self.movable += other.movable;
        self.absent += other.absent;
        self.hidden += other.hidden;
        self.cma.resize(self.cma.len().max(other.cma.len()), 0);
        for (sum, pages) in self.cma.iter_mut().zip(&other.cma) {
            *sum += pages;
        }
    }

    /// Adds pages that are there, but nothing else is known of them.
    pub fn add_hidden(&mut self, pages: u64) {
        self.hidden += pages;
    }

    fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Normal => self.normal += 1,
            Kind::Movable => self.movable += 1,
            Kind::Cma(area) => {
                if self.cma.len() <= area {
                    self.cma.resize(area + 1, 0);
                }
                if let Some(pages) = self.cma.get_mut(area) {
                    *pages += 1;
                }
            }
        }
    }
}

/// What a frame lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Movable,
    Cma(usize),
}

/// Free pages that a device may not pin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Free {
    cma: u64,
    movable: u64,
}

impl Free {
    /// With `pages` that were moved from there: the lists of free pages that each CPU has keep them for a while, and
    /// these are not counted.
    pub(crate) fn with_moved(self, pages: u64) -> Self {
        Self { cma: self.cma.saturating_add(pages), movable: self.movable.saturating_add(pages) }
    }

    fn new(meminfo: &Meminfo, zones: &Zones) -> Self {
        Self { cma: meminfo.cma_free / PAGE_SIZE, movable: zones.free_movable() }
    }
}

/// Knows the host's unpinnable frames, as of when it was made, and counts pages against them.
#[derive(Clone, Debug)]
pub struct Surveyor {
    areas: CmaAreas,
    before: Free,
    /// Sorted, disjoint: where anything but normal memory lies.
    special: Vec<(PfnRange, Kind)>,
}

impl Surveyor {
    /// Finds the host's CMA areas and ZONE_MOVABLE. Free memory is noted for the estimate, so make it before
    /// memory is allocated. What cannot be read makes for an estimate, not for an error.
    pub fn new() -> Self {
        match (Meminfo::read(), Zones::read()) {
            (Ok(meminfo), Ok(zones)) => Self::with(CmaAreas::discover(&meminfo), &meminfo, &zones),
            (Err(error), _) => Self::blind(format!("/proc/meminfo: {error}")),
            (_, Err(error)) => Self::blind(format!("/proc/zoneinfo: {error}")),
        }
    }

    /// The same over figures that are already there.
    pub fn with(areas: CmaAreas, meminfo: &Meminfo, zones: &Zones) -> Self {
        let special = special_ranges(&areas, &zones.movable());
        Self { areas, before: Free::new(meminfo, zones), special }
    }

    fn blind(reason: String) -> Self {
        Self::with(CmaAreas::Unknown { reason }, &Meminfo::default(), &Zones::default())
    }

    /// Counts the pages of `chunks` as they are mapped in this process.
    ///
    /// # Errors
    /// The pagemap cannot be read.
    pub fn count(&self, pagemap: &mut Pagemap, chunks: &[Chunk]) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let mut last = (0..0, Kind::Normal);
        for chunk in chunks {
            pagemap.walk(chunk.hva, chunk.guest.size, |page| match page {
                Page::Absent => tally.absent += 1,
                Page::Hidden => tally.hidden += 1,
                Page::Frame(pfn) => {
                    if !last.0.contains(&pfn) {
                        last = self.classify(pfn);
                    }
                    tally.count(last.1);
                }
            })?;
        }
        Ok(tally)
    }

    /// Parts of `chunk`, `sub` bytes each, with pages in CMA or ZONE_MOVABLE, by their start relative to the chunk's.
    /// Empty where that cannot be seen; pages that are not mapped in this process are not.
    ///
    /// # Errors
    /// The pagemap cannot be read.
    pub fn locate(&self, pagemap: &mut Pagemap, chunk: &Chunk, sub: u64) -> io::Result<Vec<u64>> {
        let mut found: Vec<u64> = Vec::new();
        let mut last = (0..0, Kind::Normal);
        let mut at = 0;
        pagemap.walk(chunk.hva, chunk.guest.size, |page| {
            if let Page::Frame(pfn) = page {
                if !last.0.contains(&pfn) {
                    last = self.classify(pfn);
                }
                let start = at - at % sub.max(PAGE_SIZE);
                if last.1 != Kind::Normal && found.last() != Some(&start) {
                    found.push(start);
                }
            }
            at += PAGE_SIZE;
        })?;
        Ok(found)
    }

    /// Whether the host has neither CMA nor ZONE_MOVABLE.
    pub(super) fn is_all_normal(&self) -> bool {
        self.knows_areas() && self.special.is_empty()
    }

    /// Why pages cannot be told apart, if they cannot. Some may be `hidden`.
    pub(super) fn blindness(&self, hidden: bool) -> Option<String> {
        match &self.areas {
            CmaAreas::Unknown { reason } => Some(reason.clone()),
            CmaAreas::Known(_) if hidden && !self.is_all_normal() => {
                Some("page frame numbers cannot be read without CAP_SYS_ADMIN".to_owned())
            }
            CmaAreas::Known(_) => None,
        }
    }

    /// Whether page frames can be told apart, given that they can be seen: the host's areas are all known.
    pub fn knows_areas(&self) -> bool {
        matches!(self.areas, CmaAreas::Known(_))
    }

    /// The host's CMA areas, as far as they are known.
    pub fn areas(&self) -> &CmaAreas {
        &self.areas
    }

    /// Opens the pagemap, counts, and draws the conclusion.
    ///
    /// # Errors
    /// The pagemap cannot be read.
    pub fn census(&self, chunks: &[Chunk]) -> io::Result<Census> {
        let tally = self.count(&mut Pagemap::open()?, chunks)?;
        Ok(self.conclude(&tally))
    }

    /// The census that `tally` amounts to. Where it takes an estimate, the host's free memory is read again.
    pub fn conclude(&self, tally: &Tally) -> Census {
        self.conclude_with(tally, self.free())
    }

    /// What is free now; where it cannot be read, what was free when this was made.
    pub(crate) fn free(&self) -> Free {
        match (Meminfo::read(), Zones::read()) {
            (Ok(meminfo), Ok(zones)) => Free::new(&meminfo, &zones),
            _ => self.before,
        }
    }

    /// The same where `now` was free when the pages were where they were counted.
    pub(crate) fn conclude_with(&self, tally: &Tally, now: Free) -> Census {
        let counted_cma: u64 = tally.cma.iter().sum();
        let present = tally.normal + counted_cma + tally.movable + tally.hidden;
        let census = |cma: Vec<(String, u64)>, movable: u64, basis| Census {
            total_pages: present + tally.absent,
            normal: present.saturating_sub(cma.iter().map(|(_, n)| n).sum()).saturating_sub(movable),
            cma,
            movable,
            absent: tally.absent,
            basis,
        };
        if self.is_all_normal() {
            return census(Vec::new(), 0, Basis::NothingMovable);
        }
        let Some(reason) = self.blindness(tally.hidden > 0) else {
            let names = self.areas.known().iter().map(|area| area.name.clone());
            let cma = names.zip(tally.cma.iter().copied()).filter(|(_, pages)| *pages > 0).collect();
            return census(cma, tally.movable, Basis::Pfn);
        };
        let shrunk = |before: u64, now: u64| before.saturating_sub(now).min(present);
        let cma = shrunk(self.before.cma, now.cma);
        let movable = if tally.hidden == 0 {
            tally.movable
        } else {
            shrunk(self.before.movable, now.movable).min(present - cma)
        };
        let cma = if cma > 0 { vec![("unknown".to_owned(), cma)] } else { Vec::new() };
        census(cma, movable, Basis::CmaFreeEstimate { reason })
    }

    /// What `pfn` lies in, and the frames around it for which that holds.
    pub(super) fn classify(&self, pfn: u64) -> (PfnRange, Kind) {
        let next = self.special.partition_point(|(range, _)| range.end <= pfn);
        let below = next.checked_sub(1).and_then(|i| self.special.get(i)).map_or(0, |(range, _)| range.end);
        match self.special.get(next) {
            Some((range, kind)) if range.contains(&pfn) => (range.clone(), *kind),
            Some((range, _)) => (below..range.start, Kind::Normal),
            None => (below..u64::MAX, Kind::Normal),
        }
    }
}

impl Default for Surveyor {
    fn default() -> Self {
        Self::new()
    }
}

/// CMA areas, and ZONE_MOVABLE where no CMA area covers it, sorted and disjoint.
fn special_ranges(areas: &CmaAreas, movable: &[PfnRange]) -> Vec<(PfnRange, Kind)> {
    let mut special: Vec<(PfnRange, Kind)> = Vec::new();
    for (index, area) in areas.known().iter().enumerate() {
        for range in &area.ranges {
            add_uncovered(&mut special, range.clone(), Kind::Cma(index));
        }
    }
    for range in movable {
        add_uncovered(&mut special, range.clone(), Kind::Movable);
    }
    special
}

fn add_uncovered(special: &mut Vec<(PfnRange, Kind)>, range: PfnRange, kind: Kind) {
    let mut start = range.start;
    let mut added = Vec::new();
    for (taken, _) in special.iter().filter(|(taken, _)| taken.start < range.end && range.start < taken.end) {
        if start < taken.start {
            added.push((start..taken.start, kind));
        }
        start = start.max(taken.end);
    }
    if start < range.end {
        added.push((start..range.end, kind));
    }
    special.extend(added);
    special.sort_unstable_by_key(|(range, _)| range.start);
}

#[cfg(test)]
#[path = "census_test.rs"]
mod tests;
