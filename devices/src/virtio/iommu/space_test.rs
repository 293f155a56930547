use super::*;

fn holes(ranges: &[RangeInclusive<u64>], input: RangeInclusive<u64>) -> Vec<(u64, u64, bool)> {
    let holes = Space::new(ranges, None).holes(&input);
    holes.into_iter().map(|hole| (*hole.range.start(), *hole.range.end(), hole.msi)).collect()
}

#[test]
fn what_the_host_leaves_out_is_reserved() {
    // As Intel's IOMMUs have it.
    let intel = [0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1];
    assert_eq!(holes(&intel, 0..=(1 << 39) - 1), [(0xfee0_0000, 0xfeef_ffff, true)]);
    // Another device has more.
    assert_eq!(
        holes(&intel, 0..=(1 << 48) - 1),
        [(0xfee0_0000, 0xfeef_ffff, true), (1 << 39, (1 << 48) - 1, false)]
    );
    // Reserved memory next to it, and at both ends.
    let ragged = [0x1000..=0xfdff_ffff, 0x1_0000_0000..=0xff_ffff_ffff, 0x200_0000_0000..=0x2ff_ffff_ffff];
    assert_eq!(
        holes(&ragged, 0..=0xfff_ffff_ffff),
        [
            (0, 0xfff, false),
            (0xfe00_0000, 0xfedf_ffff, false),
            (0xfee0_0000, 0xfeef_ffff, true),
            (0xfef0_0000, 0xffff_ffff, false),
            (0x100_0000_0000, 0x1ff_ffff_ffff, false),
            (0x300_0000_0000, 0xfff_ffff_ffff, false),
        ]
    );
}

#[test]
fn the_window_of_interrupts_is_never_mapped() {
    for ranges in [&[][..], &[0..=u64::MAX], &[0..=0xfeef_ffff], &[0xfee0_0000..=0xffff_ffff]] {
        let space = Space::new(ranges, None);
        assert!(!space.holds(&(0xfee0_0000..=0xfee0_0fff)), "{ranges:?}");
        let input = input(std::slice::from_ref(&space));
        let said = space.properties(&input);
        assert_eq!(said.len() % PROPERTY, 0);
        assert!(said.chunks(PROPERTY).any(|property| property[4] == RESERVED_MSI), "{ranges:?}");
    }
}

#[test]
fn a_property_is_laid_out_as_the_specification_says() {
    let space = Space::new(&[0..=0xfedf_ffff], None);
    let said = space.properties(&(0..=0xfedf_ffff));
    let mut expected = vec![1, 0, 20, 0, 1, 0, 0, 0];
    expected.extend(0xfee0_0000_u64.to_le_bytes());
    expected.extend(0xfeef_ffff_u64.to_le_bytes());
    assert_eq!(said, expected);
}

#[test]
fn the_input_range_holds_what_any_device_can_have() {
    let narrow = Space::new(&[0x1000..=0xffff], None);
    let wide = Space::new(&[0x8000..=0xf_ffff], None);
    assert_eq!(input(&[narrow, wide]), 0x1000..=0xf_ffff);
    assert_eq!(input(&[]), USUAL);
}
