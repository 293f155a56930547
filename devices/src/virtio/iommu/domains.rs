//! Domains, what is mapped in them, and which endpoints are attached: what the driver may ask for is decided here, and nothing else. Who
//! does it is [`Reach`].
//!
//! Endpoints that the host's IOMMU cannot tell apart are in one space: where the driver attaches one of them, all go, as the hardware
//! has it. A domain is there as long as an endpoint is attached to it (virtio 1.2 §5.13.6.3).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use memory::{GuestRange, PAGE_SIZE};

use super::request::Refused;
use super::space::Space;
use super::{Access, Reach, Unreached};

/// Mappings that a domain may have, which is what a VFIO container takes.
const MOST_MAPPINGS: u64 = 65_535;
/// How often all of the guest's memory may be mapped in a domain.
const MOST_OFTEN: u64 = 2;
/// The last domain.
pub(super) const LAST_DOMAIN: u32 = 0xffff;

/// All of it.
pub(super) struct Domains {
    reach: Box<dyn Reach>,
    /// The space of each endpoint.
    endpoints: Vec<(u32, usize)>,
    spaces: Vec<Place>,
    /// By their numbers: no more than spaces.
    domains: Vec<(u32, Domain)>,
    input: RangeInclusive<u64>,
}

/// A space, and where it is.
struct Place {
    space: Space,
    domain: Option<u32>,
    /// The endpoints that the driver has attached.
    attached: Vec<u32>,
}

#[derive(Default)]
struct Domain {
    /// By the first IOVA.
    mappings: BTreeMap<u64, Mapping>,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Mapping {
    last: u64,
    gpa: u64,
    access: Access,
}

impl Mapping {
    fn guest(&self, first: u64) -> GuestRange {
        GuestRange { start: self.gpa, size: self.last - first + 1 }
    }
}

impl From<Unreached> for Refused {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::NoMemory => Self::NoMemory,
            Unreached::Failed => Self::Device,
        }
    }
}

impl Domains {
    pub(super) fn new(
        endpoints: Vec<(u32, usize)>,
        spaces: Vec<Space>,
        input: RangeInclusive<u64>,
        reach: Box<dyn Reach>,
    ) -> Self {
        let place = |space| Place { space, domain: None, attached: Vec::new() };
        let spaces = spaces.into_iter().map(place).collect();
        Self { reach, endpoints, spaces, domains: Vec::new(), input }
    }

    /// Has an endpoint reach what is mapped in a domain, and nothing else.
    pub(super) fn attach(&mut self, domain: u32, endpoint: u32) -> Result<(), Refused> {
        let space = self.space_of(endpoint)?;
        if domain > LAST_DOMAIN {
            return Err(Refused::Range);
        }
        if self.place(space)?.domain != Some(domain) {
            self.leave(space)?;
            self.enter(space, domain)?;
        }
        let attached = &mut self.place(space)?.attached;
        attached.retain(|other| *other != endpoint);
        attached.push(endpoint);
        Ok(())
    }

    /// Has an endpoint reach nothing.
    pub(super) fn detach(&mut self, domain: u32, endpoint: u32) -> Result<(), Refused> {
        let space = self.space_of(endpoint)?;
        let place = self.place(space)?;
        if place.domain != Some(domain) || !place.attached.contains(&endpoint) {
            return Err(Refused::Invalid);
        }
        if place.attached.len() == 1 {
            self.leave(space)?;
        }
        self.place(space)?.attached.retain(|other| *other != endpoint);
        Ok(())
    }

    /// Maps guest memory from `gpa` on, of which there is `ram` in all if `is_ram` says so, at these IOVAs.
    pub(super) fn map(
        &mut self,
        domain: u32,
        iova: RangeInclusive<u64>,
        gpa: u64,
        access: Access,
        ram: &dyn Ram,
    ) -> Result<(), Refused> {
        let spaces = self.spaces_in(domain);
        let held = self.domain(domain).ok_or(Refused::Absent)?;
        let (first, last) = (*iova.start(), *iova.end());
        let end = last.checked_add(1).ok_or(Refused::Range)?;
        if first > last || [first, end, gpa].iter().any(|at| !at.is_multiple_of(PAGE_SIZE)) {
            return Err(Refused::Range);
        }
        if first < *self.input.start() || last > *self.input.end() {
            return Err(Refused::Range);
        }
        let size = end - first;
        let guest = gpa.checked_add(size).map(|_| GuestRange { start: gpa, size }).ok_or(Refused::Invalid)?;
        let places = spaces.iter().filter_map(|space| self.spaces.get(*space));
        if places.clone().any(|place| !place.space.holds(&iova))
            || overlapping(held, &iova).next().is_some()
            || !ram.has(guest)
        {
            return Err(Refused::Invalid);
        }
        let room = places.filter_map(|place| place.space.room).fold(MOST_MAPPINGS, u64::min);
        if held.mappings.len() as u64 >= room
            || held.bytes.saturating_add(size) > ram.size().saturating_mul(MOST_OFTEN)
        {
            return Err(Refused::NoMemory);
        }
        self.reach.map(&spaces, &iova, guest, access)?;
        if let Some(held) = find(&mut self.domains, domain) {
            held.mappings.insert(first, Mapping { last, gpa, access });
            held.bytes = held.bytes.saturating_add(size);
        }
        Ok(())
    }

    /// Unmaps whatever mappings lie in these IOVAs; none may lie there only in part (§5.13.6.6).
    pub(super) fn unmap(&mut self, domain: u32, iova: RangeInclusive<u64>) -> Result<(), Refused> {
        let spaces = self.spaces_in(domain);
        let held = find(&mut self.domains, domain).ok_or(Refused::Absent)?;
        if iova.is_empty() {
            return Err(Refused::Range);
        }
        let inside = |(first, it): &(u64, Mapping)| iova.contains(first) && iova.contains(&it.last);
        if !overlapping(held, &iova).all(|mapping| inside(&mapping)) {
            return Err(Refused::Range);
        }
        let mut runs: Vec<RangeInclusive<u64>> = Vec::new();
        for (first, Mapping { last, .. }) in overlapping(held, &iova) {
            match runs.last_mut() {
                Some(run) if run.end().checked_add(1) == Some(first) => *run = *run.start()..=last,
                _ => runs.push(first..=last),
            }
        }
        for run in runs {
            self.reach.unmap(&spaces, &run)?;
            while let Some((first, mapping)) = held.mappings.range(run.clone()).next() {
                let (first, size) = (*first, mapping.guest(*first).size);
                held.mappings.remove(&first);
                held.bytes = held.bytes.saturating_sub(size);
            }
        }
        Ok(())
    }

    /// What is said of an endpoint.
    pub(super) fn probe(&self, endpoint: u32) -> Result<Vec<u8>, Refused> {
        let space = self.space_of(endpoint)?;
        let place = self.spaces.get(space).ok_or(Refused::Absent)?;
        Ok(place.space.properties(&self.input))
    }

    /// There is no driver any more: no endpoint reaches anything.
    pub(super) fn reset(&mut self) {
        for space in 0..self.spaces.len() {
            // What the host does not let go of it has told of itself.
            let _ = self.leave(space);
        }
        self.domains.clear();
        for place in &mut self.spaces {
            place.domain = None;
            place.attached.clear();
        }
    }

    fn space_of(&self, endpoint: u32) -> Result<usize, Refused> {
        let of = self.endpoints.iter().find(|(other, _)| *other == endpoint);
        of.map(|(_, space)| *space).ok_or(Refused::Absent)
    }

    fn domain(&self, domain: u32) -> Option<&Domain> {
        self.domains.iter().find(|(other, _)| *other == domain).map(|(_, it)| it)
    }

    fn place(&mut self, space: usize) -> Result<&mut Place, Refused> {
        self.spaces.get_mut(space).ok_or(Refused::Absent)
    }

    fn spaces_in(&self, domain: u32) -> Vec<usize> {
        let is_in = |(_, place): &(usize, &Place)| place.domain == Some(domain);
        self.spaces.iter().enumerate().filter(is_in).map(|(space, _)| space).collect()
    }

    /// Takes a space out of the domain that it is in, which goes with the last one.
    fn leave(&mut self, space: usize) -> Result<(), Refused> {
        let Some(domain) = self.place(space)?.domain else { return Ok(()) };
        self.reach.clear(space)?;
        let place = self.place(space)?;
        place.domain = None;
        if self.spaces_in(domain).is_empty() {
            self.domains.retain(|(other, _)| *other != domain);
        }
        Ok(())
    }

    /// Puts a space that is in no domain into one, which is made if there is none.
    fn enter(&mut self, space: usize, domain: u32) -> Result<(), Refused> {
        let limits = self.place(space)?.space.clone();
        if let Some(held) = self.domain(domain) {
            let fits = held.mappings.iter().all(|(first, it)| limits.holds(&(*first..=it.last)));
            if !fits || limits.room.is_some_and(|room| held.mappings.len() as u64 > room) {
                return Err(Refused::Unsupported);
            }
            for (first, mapping) in &held.mappings {
                let iova = *first..=mapping.last;
                if let Err(refused) = self.reach.map(&[space], &iova, mapping.guest(*first), mapping.access) {
                    // Whatever is left of it is told of by the host's side.
                    let _ = self.reach.clear(space);
                    return Err(refused.into());
                }
            }
        }
        self.place(space)?.domain = Some(domain);
        if self.domain(domain).is_none() {
            self.domains.push((domain, Domain::default()));
        }
        Ok(())
    }
}

fn find(domains: &mut [(u32, Domain)], domain: u32) -> Option<&mut Domain> {
    domains.iter_mut().find(|(other, _)| *other == domain).map(|(_, it)| it)
}

/// The guest's memory.
pub(super) trait Ram {
    /// Whether all of a range is one piece of it.
    fn has(&self, range: GuestRange) -> bool;
    /// Its size, in bytes.
    fn size(&self) -> u64;
}

impl Ram for memory::GuestRam {
    fn has(&self, range: GuestRange) -> bool {
        self.piece(range).is_some()
    }

    fn size(&self) -> u64 {
        self.size()
    }
}

/// The mappings that share an address with `iova`, ascending.
fn overlapping<'a>(
    domain: &'a Domain,
    iova: &RangeInclusive<u64>,
) -> impl Iterator<Item = (u64, Mapping)> + use<'a> {
    let (first, last) = (*iova.start(), *iova.end());
    let before = domain.mappings.range(..first).next_back().filter(|(_, it)| it.last >= first);
    // A range that ends before it starts has none.
    let inside = if first > last { None } else { Some(domain.mappings.range(first..=last)) };
    before.into_iter().chain(inside.into_iter().flatten()).map(|(first, it)| (*first, *it))
}

#[cfg(test)]
#[path = "domains_test.rs"]
mod tests;
