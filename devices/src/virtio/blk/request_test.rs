use proptest::prelude::*;

use super::*;

fn segments(lengths: &[u32]) -> Vec<Segment> {
    (0..).zip(lengths).map(|(n, &length)| Segment { address: n << 32, length }).collect()
}

#[test]
fn header_and_answer_are_cut_off_wherever_they_lie() {
    let one = segments(&[16 + 512 + 1]);
    assert_eq!(part(&one, 16, 512), [GuestRange::new(16, 512)]);
    let split = segments(&[10, 10, 512]);
    assert_eq!(part(&split, 16, 516), [GuestRange::new((1 << 32) + 6, 4), GuestRange::new(2 << 32, 512)]);
    assert_eq!(part(&split, 0, 5), [GuestRange::new(0, 5)]);
    assert_eq!(part(&split, 532, 0), []);
}

proptest! {
    #[test]
    fn a_part_is_as_long_as_asked(
        lengths in prop::collection::vec(1_u32..2000, 1..20), skip in 0_u64..5000, length in 0_u64..50_000
    ) {
        let all: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        let ranges = part(&segments(&lengths), skip, length);
        let sum: u64 = ranges.iter().map(|range| range.size).sum();
        prop_assert_eq!(sum, length.min(all.saturating_sub(skip)));
        for range in ranges {
            let place = (range.start >> 32) as usize;
            prop_assert!((range.start & 0xffff_ffff) + range.size <= u64::from(lengths[place]));
        }
    }
}
