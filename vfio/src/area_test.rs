#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges are what is tested")]

use proptest::prelude::*;

use super::*;

#[test]
fn a_table_in_the_middle_splits_the_bar() {
    let holes = [0x2000..0x2110, 0x3000..0x3008];
    assert_eq!(mappable(0x8000, None, &holes), vec![0..0x2000, 0x4000..0x8000]);
}

#[test]
fn a_table_at_either_end_shortens_it() {
    assert_eq!(mappable(0x4000, None, &[0..0x10]), vec![0x1000..0x4000]);
    assert_eq!(mappable(0x4000, None, &[0x3ff0..0x4000]), vec![0..0x3000]);
}

#[test]
fn sparse_areas_are_honoured() {
    let sparse = [0x4000..0x6000, 0x0..0x1800, 0x1000..0x2000, 0x7000..0x10_0000];
    assert_eq!(mappable(0x8000, Some(&sparse), &[]), vec![0..0x2000, 0x4000..0x6000, 0x7000..0x8000]);
    assert_eq!(
        mappable(0x8000, Some(&sparse), &[0x4800..0x4900]),
        vec![0..0x2000, 0x5000..0x6000, 0x7000..0x8000]
    );
    assert_eq!(mappable(0x8000, Some(&[]), &[]), vec![]);
}

#[test]
fn a_bar_below_a_page_is_trapped() {
    assert_eq!(mappable(0x100, None, &[]), vec![]);
    assert_eq!(mappable(0x1000, None, &[0..0x10]), vec![]);
    assert_eq!(mappable(0, None, &[]), vec![]);
}

proptest! {
    #[test]
    fn areas_are_pages_outside_the_holes(
        size in any::<u64>(),
        sparse in proptest::option::of(proptest::collection::vec(any::<(u64, u64)>(), 0..6)),
        holes in proptest::collection::vec(any::<(u64, u64)>(), 0..4),
    ) {
        let range = |(a, b): &(u64, u64)| a % 0x10_0000..b % 0x10_0000;
        let size = size % 0x10_0000;
        let sparse: Option<Vec<_>> = sparse.map(|pairs| pairs.iter().map(range).collect());
        let holes: Vec<_> = holes.iter().map(range).collect();
        let areas = mappable(size, sparse.as_deref(), &holes);
        let mut end = 0;
        for area in areas {
            prop_assert!(area.start < area.end && area.end <= size && area.start >= end);
            prop_assert!(area.start % PAGE == 0 && area.end % PAGE == 0);
            prop_assert!(holes.iter().all(|hole| hole.is_empty() || hole.end <= area.start || area.end <= hole.start));
            end = area.end;
        }
    }
}
