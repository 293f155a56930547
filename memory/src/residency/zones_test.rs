#![expect(clippy::single_range_in_vec_init, reason = "lists of frame ranges, some with one range")]

use super::*;

const ZONEINFO: &str = "\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 2129
      nr_free_cma  999
  pages free     3840
        boost    0
        min      42
        low      52
        high     62
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 3019, 5963, 5963, 5963)
      nr_free_pages 3840
      nr_free_cma  0
  pagesets
    cpu: 0
              count:    0
              high:     0
              batch:    1
  vm stats threshold: 4
  node_unreclaimable:  0
  start_pfn:           1
Node 0, zone   Normal
  pages free     350000
        min      6000
        low      7500
        spanned  393216
        cma      230400
      nr_free_cma  220000
  start_pfn:           1048576
Node 0, zone  Movable
  pages free     230000
        min      32
        low      32
        spanned  230400
        present  230400
        cma      16
      nr_free_cma  10
  start_pfn:           1441792
Node 1, zone  Movable
  pages free     0
        min      0
        spanned  0
        cma      0
        protection: (0, 0, 0, 0, 0)
";

#[test]
fn finds_movable_and_cma() {
    let zones = Zones::parse(ZONEINFO);
    assert_eq!(zones.0.len(), 4);
    let normal = &zones.0[1];
    assert_eq!((normal.node, normal.name.as_str(), normal.free), (0, "Normal", 350_000));
    assert_eq!((normal.min, normal.low, normal.span()), (6000, 7500, 1_048_576..1_441_792));
    assert_eq!(zones.0[0].free_cma, 0);
    assert_eq!((zones.cma(), zones.free_cma()), (230_416, 220_010));
    assert_eq!(zones.movable(), [1_441_792..1_672_192]);
    assert_eq!(zones.free_movable(), 229_990);
}

#[test]
fn takes_any_input() {
    let huge =
        "Node 0, zone Movable\n start_pfn: 18446744073709551615\n spanned 18446744073709551615\n pages free";
    assert_eq!(Zones::parse(huge).movable(), []);
    for text in
        ["", "Node", "Node 0", "Node x, zone Normal", "Node 0, zone", "min 5", "Node 0, zone Q\n cma x"]
    {
        assert!(Zones::parse(text).0.iter().all(|zone| zone.cma == 0 && zone.spanned == 0), "{text}");
    }
}

#[test]
fn what_names_no_zone_is_no_zoneinfo() {
    for text in ["", "Node 0", "  pages free 3840\n"] {
        assert!(Zones::parse_whole(text).is_err(), "{text}");
    }
    assert_eq!(Zones::parse_whole(ZONEINFO).unwrap(), Zones::parse(ZONEINFO));
}

#[test]
fn this_host_has_zones() {
    assert!(Zones::read().unwrap().0.iter().any(|zone| zone.spanned > 0));
}

proptest::proptest! {
    #![proptest_config(crate::fuzz::thoroughly())]
    #[test]
    fn takes_any_text(text in crate::fuzz::hostile_text(include_str!("../../testdata/zoneinfo.txt"))) {
        let zones = Zones::parse(&text);
        proptest::prop_assert!(zones.0.len() <= text.lines().count());
        proptest::prop_assert!(zones.movable().iter().all(|range| range.start < range.end));
        // Sums of whatever was printed.
        let _ = (zones.free_movable(), zones.cma(), zones.free_cma());
    }
}
