//! `/proc/zoneinfo` (mm/vmstat.c, zoneinfo_show_print): where ZONE_MOVABLE lies and which zones hold CMA memory.
//! World-readable and exact for ZONE_MOVABLE; of CMA it tells how much, not where.

use std::io;

use super::PfnRange;
use crate::text;

/// One memory zone of one NUMA node. Counts are in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// NUMA node.
    pub node: u32,
    /// `DMA`, `DMA32`, `Normal`, `Movable` or `Device`.
    pub name: String,
    /// Free pages.
    pub free: u64,
    /// Below this many free pages allocations reclaim directly.
    pub min: u64,
    /// Below this many free pages the zone is reclaimed in the background.
    pub low: u64,
    /// Frames between the first and the last, holes included.
    pub spanned: u64,
    /// Pages in CMA areas.
    pub cma: u64,
    /// Free pages in CMA areas.
    pub free_cma: u64,
    /// First frame; 0 if the zone is empty.
    pub start_pfn: u64,
}

impl Zone {
    /// Whether a device may not pin its pages.
    pub fn is_movable(&self) -> bool {
        self.name == "Movable"
    }

    /// The frames it spans.
    pub fn span(&self) -> PfnRange {
        self.start_pfn..self.start_pfn.saturating_add(self.spanned)
    }
}

/// All zones of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones(pub Vec<Zone>);

impl Zones {
    /// The host's zones now.
    ///
    /// # Errors
    /// `/proc/zoneinfo` cannot be read, or is not what the kernel writes there.
    pub fn read() -> io::Result<Self> {
        Self::parse_whole(&text::read("/proc/zoneinfo")?)
    }

    fn parse_whole(text: &str) -> io::Result<Self> {
        let zones = Self::parse(text);
        let named = "/proc/zoneinfo names no zone";
        if zones.0.is_empty() { Err(io::Error::new(io::ErrorKind::InvalidData, named)) } else { Ok(zones) }
    }

    /// Reads the zones out of `text`; what it does not know is ignored.
    pub fn parse(text: &str) -> Self {
        let mut zones: Vec<Zone> = Vec::new();
        for line in text.lines() {
            if let Some(zone) = parse_header(line) {
                zones.push(zone);
            } else if let Some(zone) = zones.last_mut() {
                parse_figure(zone, line);
            }
        }
        Self(zones)
    }

    /// The frames of ZONE_MOVABLE, one range a node.
    pub fn movable(&self) -> Vec<PfnRange> {
        self.0.iter().filter(|z| z.is_movable()).map(Zone::span).filter(|span| !span.is_empty()).collect()
    }

    /// Free pages in ZONE_MOVABLE that are not CMA.
    pub fn free_movable(&self) -> u64 {
        sum(self.0.iter().filter(|z| z.is_movable()).map(|z| z.free.saturating_sub(z.free_cma)))
    }

    /// Free pages of a node outside ZONE_MOVABLE and CMA, down to where they are reclaimed.
    pub fn free_pinnable(&self, node: u32) -> u64 {
        let zones = self.0.iter().filter(|z| z.node == node && !z.is_movable());
        sum(zones.map(|z| z.free.saturating_sub(z.free_cma).saturating_sub(z.low)))
    }

    /// Pages in CMA areas.
    pub fn cma(&self) -> u64 {
        sum(self.0.iter().map(|z| z.cma))
    }

    /// Free pages in CMA areas.
    pub fn free_cma(&self) -> u64 {
        sum(self.0.iter().map(|z| z.free_cma))
    }
}

/// No count is taken for granted.
fn sum(pages: impl Iterator<Item = u64>) -> u64 {
    pages.fold(0, u64::saturating_add)
}

/// `Node 0, zone   Normal`
fn parse_header(line: &str) -> Option<Zone> {
    let (node, zone) = line.strip_prefix("Node ")?.split_once(',')?;
    let name = zone.trim_start().strip_prefix("zone")?.trim();
    Some(Zone { node: node.trim().parse().ok()?, name: name.to_owned(), ..Zone::default() })
}

fn parse_figure(zone: &mut Zone, line: &str) {
    let mut words = line.split_whitespace();
    let (Some(key), Some(value)) = (words.next(), words.next()) else { return };
    // Lines below "pages free" have the key first; that one has it second.
    let (key, value) = if key == "pages" && value == "free" {
        (value, words.next().unwrap_or_default())
    } else {
        (key.trim_end_matches(':'), value)
    };
    let Ok(value) = value.parse::<u64>() else { return };
    if words.next().is_some() {
        return;
    }
    match key {
        "free" => zone.free = value,
        "min" => zone.min = value,
        "low" => zone.low = value,
        "spanned" => zone.spanned = value,
        "cma" => zone.cma = value,
        "nr_free_cma" => zone.free_cma = value,
        "start_pfn" => zone.start_pfn = value,
        _ => (),
    }
}

#[cfg(test)]
#[path = "zones_test.rs"]
mod tests;
