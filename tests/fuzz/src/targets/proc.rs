//! What the kernel says in files, as text: the first byte chooses who reads the rest.

use memory::pin::privilege::Memlock;
use memory::residency::cma::Log;
use memory::residency::nodes::IdList;
use memory::residency::{CmaAreas, Meminfo, Surveyor, Vmstat, Zones, pagetypes};

use devices::pci::PciAddress;

pub(super) fn run(bytes: &[u8]) {
    let Some((reader, bytes)) = bytes.split_first() else { return };
    let text = &String::from_utf8_lossy(bytes);
    match reader % 8 {
        0 => {
            let zones = Zones::parse(text);
            let _ = (
                zones.movable(),
                zones.free_movable(),
                zones.free_pinnable(0),
                zones.cma(),
                zones.free_cma(),
            );
            let areas = CmaAreas::Known(Log::parse(text).areas);
            let _ = Surveyor::with(areas, &Meminfo::parse(text), &zones).knows_areas();
        }
        1 => {
            let log = Log::parse(text);
            let areas = CmaAreas::Known(log.areas);
            let _ = (areas.known().iter().find_map(|area| area.hugetlb()), log.unplaced, log.hugetlb);
        }
        2 => {
            let (before, after) = text.split_at(text.floor_char_boundary(text.len() / 2));
            let _ = Vmstat::parse(after).since(&Vmstat::parse(before)).migration_failed();
        }
        3 => drop(Meminfo::parse(text)),
        4 => drop(pagetypes::parse(text)),
        5 => {
            if let Some(list) = IdList::parse(text) {
                let _ = list.contains(u32::MAX);
            }
        }
        6 => {
            let mut parts = text.splitn(3, '\x01');
            let mut next = || parts.next().unwrap_or_default();
            let (status, uid_map, limits) = (next(), next(), next());
            let _ = Memlock::parse(status, uid_map, || limits.to_owned()).allows(1 << 30);
        }
        _ => {
            // What is taken for an address is written back as it was meant.
            if let Ok(address) = text.parse::<PciAddress>() {
                assert_eq!(address.to_string().parse::<PciAddress>().unwrap(), address);
            }
        }
    }
}
