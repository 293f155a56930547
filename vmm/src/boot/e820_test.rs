use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn of(kind: E820Kind, map: &[E820Entry]) -> Vec<(u64, u64)> {
    map.iter().filter(|e| e.kind == kind).map(|e| (e.range.start, e.range.end())).collect()
}

#[test]
fn a_usual_machine() {
    let ram = [GuestRange::new(0, 3 << 30), GuestRange::new(4 << 30, 5 << 30)];
    let ecam = GuestRange::new(0xc000_0000, 256 * MIB);
    let map = e820(&ram, &[ecam]);
    assert_eq!(of(E820Kind::Ram, &map), [(0, 0xa0000), (MIB, 3 << 30), (4 << 30, 9 << 30)]);
    assert_eq!(of(E820Kind::Reserved, &map), [(0xa0000, MIB), (0xc000_0000, 0xd000_0000)]);
}

#[test]
fn reserved_wins_over_ram() {
    let map = e820(&[GuestRange::new(0, 64 * MIB)], &[GuestRange::new(16 * MIB, MIB)]);
    assert_eq!(of(E820Kind::Ram, &map), [(0, 0xa0000), (MIB, 16 * MIB), (17 * MIB, 64 * MIB)]);
}

fn ranges(count: usize) -> impl Strategy<Value = Vec<GuestRange>> {
    let range =
        (0..1_u64 << 20, 0..1_u64 << 18).prop_map(|(page, pages)| GuestRange::new(page << 12, pages << 12));
    proptest::collection::vec(range, 0..count)
}

proptest! {
    #[test]
    fn entries_are_sorted_and_apart_and_cover_all(ram in ranges(6), reserved in ranges(6)) {
        let map = e820(&ram, &reserved);
        for pair in map.windows(2) {
            prop_assert!(pair[0].range.end() <= pair[1].range.start);
        }
        prop_assert!(map.iter().all(|entry| !entry.range.is_empty()));

        // Membership changes only at an end of some range: looking there and just before is looking everywhere.
        let inside = |ranges: &[GuestRange], at: u64| ranges.iter().any(|r| (r.start..r.end()).contains(&at));
        let ends = ram.iter().chain(&reserved).flat_map(|r| [r.start, r.end()]).chain([map::ISA.start, map::ISA.end()]);
        for at in ends.flat_map(|end| [end.saturating_sub(1), end]) {
            let reserved = inside(&reserved, at) || inside(&[map::ISA], at);
            let expected = match (reserved, inside(&ram, at)) {
                (true, _) => Some(E820Kind::Reserved),
                (false, true) => Some(E820Kind::Ram),
                (false, false) => None,
            };
            let found = map.iter().find(|e| (e.range.start..e.range.end()).contains(&at)).map(|e| e.kind);
            prop_assert_eq!(found, expected, "at {:#x}", at);
        }
    }
}
