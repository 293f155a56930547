use super::*;
use crate::bytes::{GIB, MIB};
use crate::layout::AddressLimits;
use crate::{Layout, residency};

#[test]
fn a_part_is_the_same_in_all_address_spaces() {
    let region = RamRegion { guest: GuestRange::new(4 * GIB, GIB), hva: 0x7000_0000_0000, offset: 8 * GIB };
    let at =
        |start, size| part(&region, GuestRange::new(start, size)).map(|it| (it.guest.start, it.guest.size));
    assert_eq!(at(0, 4 * GIB), None);
    assert_eq!(at(0, 5 * GIB), Some((4 * GIB, GIB)));
    assert_eq!(at(5 * GIB, GIB), None);
    let inner = part(&region, GuestRange::new(4 * GIB + MIB, 2 * GIB)).unwrap();
    assert_eq!((inner.hva, inner.offset), (0x7000_0000_0000 + MIB, 8 * GIB + MIB));
    assert_eq!(inner.guest, GuestRange::new(4 * GIB + MIB, GIB - MIB));
}

#[test]
fn memory_is_bound_to_nodes_that_there_are() {
    let layout = Layout::new(32 * MIB, &AddressLimits::cpu_only(40)).unwrap();
    let mut ram = GuestRam::new(&layout).unwrap();
    let half = GuestRange::new(16 * MIB, 16 * MIB);
    assert!(ram.bind(half, 1023).is_err() && ram.bind(half, u32::MAX).is_err());
    assert_eq!((ram.bound_to(half), ram.chunks(GIB).len()), (None, 1));
    // A kernel without NUMA, or one that does not say, has none.
    let Some(node) = residency::Node::allowed().first().map(|node| node.id) else { return };
    ram.bind(half, node).unwrap();
    let chunks = ram.chunks(GIB);
    let bound: Vec<_> = chunks.iter().map(|chunk| (chunk.guest.size, ram.bound_to(chunk.guest))).collect();
    assert_eq!(bound, [(16 * MIB, None), (16 * MIB, Some(node))]);
}
