use super::*;

fn pages(ranges: &[(u64, u64)]) -> Vec<GuestRange> {
    ranges.iter().map(|(first, count)| GuestRange::new(first * PAGE_SIZE, count * PAGE_SIZE)).collect()
}

#[test]
fn neighbours_are_one_range_in_whatever_order_they_come() {
    assert_eq!(ranges(vec![]), []);
    assert_eq!(ranges(vec![7]), pages(&[(7, 1)]));
    assert_eq!(ranges(vec![9, 3, 8, 1, 2, 7, 20]), pages(&[(1, 3), (7, 3), (20, 1)]));
}

#[test]
fn a_page_that_is_named_twice_is_one_page() {
    assert_eq!(ranges(vec![5, 5, 4, 5]), pages(&[(4, 2)]));
}

#[test]
fn the_largest_number_is_far_from_overflow() {
    assert_eq!(ranges(vec![0, u32::MAX, u32::MAX - 1]), pages(&[(0, 1), (0xffff_fffe, 2)]));
}
