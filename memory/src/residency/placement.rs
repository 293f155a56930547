//! Where guest RAM lies, piece by piece: the [census](super::census) of each GiB, with NUMA nodes and huge pages. For people
//! who want to see; it is asked for while the guest runs, and walks the page tables of all RAM.
//!
//! A frame's node is that of the zone it lies in. Frames count as huge where all 512 of an aligned 2 MiB of the guest are
//! those of an aligned 2 MiB of the host, which is what page tables and IOMMUs can map at once.

use std::io;

use super::census::Kind;
use super::pagemap::{Page, Pagemap};
use super::{PfnRange, Surveyor, Zones};
use crate::bytes::GIB;
use crate::pin::Chunk;
use crate::ram::show_present;
use crate::{GuestRam, GuestRange};

/// Frames of a huge page.
const HUGE: u64 = 512;

/// A piece of guest RAM of up to 1 GiB, its pages by where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The piece.
    pub guest: GuestRange,
    /// Pages in memory that can be pinned.
    pub normal: u64,
    /// Pages in CMA areas.
    pub cma: u64,
    /// Pages in ZONE_MOVABLE outside CMA.
    pub movable: u64,
    /// Pages that are there, where cannot be seen.
    pub hidden: u64,
    /// Pages that are not there yet.
    pub absent: u64,
    /// Of those that are there, how many are part of huge ones.
    pub huge: u64,
    /// Pages by NUMA node, as far as that can be told.
    pub nodes: Vec<(u32, u64)>,
}

/// All of guest RAM, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placements {
    /// The pieces.
    pub pieces: Vec<Placement>,
    /// Why it is not known of all pages where they lie, if it is not.
    pub unknown: Option<String>,
}

impl Placements {
    /// Looks at all of `ram`. Pages that exist are entered into the page tables first; none is allocated.
    ///
    /// # Errors
    /// The pagemap cannot be read.
    pub fn of(ram: &GuestRam) -> io::Result<Self> {
        let surveyor = Surveyor::new();
        let nodes = Nodes::of(&Zones::read().unwrap_or_default());
        let mut pagemap = Pagemap::open()?;
        let mut pieces = Vec::new();
        for chunk in ram.chunks(GIB) {
            if let Err(error) =
                show_present(ram.file(), ram.backing(), chunk.offset, chunk.hva, chunk.guest.size)
            {
                tracing::debug!(%error, guest = %chunk.guest, "entering the present guest pages into the page tables");
            }
            pieces.push(piece(&surveyor, &nodes, &mut pagemap, &chunk)?);
        }
        let hidden = pieces.iter().any(|piece| piece.hidden > 0);
        Ok(Self { pieces, unknown: surveyor.blindness(hidden) })
    }
}

fn piece(surveyor: &Surveyor, nodes: &Nodes, pagemap: &mut Pagemap, chunk: &Chunk) -> io::Result<Placement> {
    let mut counting = Counting::new(surveyor, nodes, chunk.guest);
    pagemap.walk(chunk.hva, chunk.guest.size, |page| counting.see(&page))?;
    Ok(counting.placement)
}

/// The nodes' frames, sorted and disjoint.
#[derive(Clone, Debug, Default)]
struct Nodes(Vec<(PfnRange, u32)>);

impl Nodes {
    /// Where zones of several nodes overlap, which those of one node's do not, it is not said whose frames are whose.
    fn of(zones: &Zones) -> Self {
        let mut spans: Vec<(PfnRange, u32)> = zones
            .0
            .iter()
            .map(|zone| (zone.span(), zone.node))
            .filter(|(span, _)| !span.is_empty())
            .collect();
        spans.sort_unstable_by_key(|(span, _)| span.start);
        let disjoint = spans
            .iter()
            .zip(spans.iter().skip(1))
            .all(|(one, next)| one.0.end <= next.0.start || one.1 == next.1);
        Self(if disjoint { spans } else { Vec::new() })
    }

    fn node(&self, pfn: u64) -> Option<u32> {
        let (_, node) = self.0.iter().find(|(span, _)| span.contains(&pfn))?;
        Some(*node)
    }
}

/// Counts the pages of a piece, in their order.
struct Counting<'a> {
    surveyor: &'a Surveyor,
    nodes: &'a Nodes,
    /// What the last frame lay in, and those around it.
    last: (PfnRange, Kind),
    last_node: Option<(u32, usize)>,
    page: u64,
    run: u64,
    previous: u64,
    placement: Placement,
}

impl<'a> Counting<'a> {
    fn new(surveyor: &'a Surveyor, nodes: &'a Nodes, guest: GuestRange) -> Self {
        let placement = Placement {
            guest,
            normal: 0,
            cma: 0,
            movable: 0,
            hidden: 0,
            absent: 0,
            huge: 0,
            nodes: Vec::new(),
        };
        let last = (0..0, Kind::Normal);
        Self { surveyor, nodes, last, last_node: None, page: 0, run: 0, previous: 0, placement }
    }

    fn see(&mut self, page: &Page) {
        match *page {
            Page::Absent => self.placement.absent += 1,
            Page::Hidden if self.surveyor.is_all_normal() => self.placement.normal += 1,
            Page::Hidden => self.placement.hidden += 1,
            Page::Frame(pfn) => self.see_frame(pfn),
        }
        self.run = match *page {
            Page::Frame(pfn) if self.page.is_multiple_of(HUGE) && pfn.is_multiple_of(HUGE) => 1,
            Page::Frame(pfn) if self.run > 0 && pfn == self.previous + 1 => self.run + 1,
            _ => 0,
        };
        if self.run == HUGE {
            self.placement.huge += HUGE;
            self.run = 0;
        }
        if let Page::Frame(pfn) = *page {
            self.previous = pfn;
        }
        self.page += 1;
    }

    fn see_frame(&mut self, pfn: u64) {
        if !self.last.0.contains(&pfn) {
            self.last = self.surveyor.classify(pfn);
        }
        match self.last.1 {
            _ if !self.surveyor.knows_areas() => self.placement.hidden += 1,
            Kind::Normal => self.placement.normal += 1,
            Kind::Movable => self.placement.movable += 1,
            Kind::Cma(_) => self.placement.cma += 1,
        }
        // Frames come in runs: each is looked up where the node before does not have it.
        let Some(node) = self.nodes.node(pfn) else { return };
        let nodes = &mut self.placement.nodes;
        let index = match self.last_node {
            Some((last, index)) if last == node => index,
            _ => nodes.iter().position(|(known, _)| *known == node).unwrap_or_else(|| {
                nodes.push((node, 0));
                nodes.len() - 1
            }),
        };
        self.last_node = Some((node, index));
        if let Some((_, pages)) = nodes.get_mut(index) {
            *pages += 1;
        }
    }
}

#[cfg(test)]
#[path = "placement_test.rs"]
mod tests;
