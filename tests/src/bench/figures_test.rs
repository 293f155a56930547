use super::*;

#[test]
fn percentiles_are_by_the_nearest_rank() {
    let times: Vec<f64> = (1..=200).map(f64::from).collect();
    assert_eq!(percentile(&times, 50), Some(100.0));
    assert_eq!(percentile(&times, 99), Some(198.0));
    assert_eq!(percentile(&times[..1], 50), Some(1.0));
    assert_eq!(percentile(&[], 50), None);
}

#[test]
fn what_was_measured_is_taken_together_in_whatever_order() {
    let summary = Summary::of([9.0, 1.0, 5.0, 3.0]).unwrap();
    let expected = Summary { median: 3.0, min: 1.0, quartiles: [1.0, 5.0], max: 9.0 };
    assert_eq!(summary, expected);
    assert_eq!(Summary::of([]), None);
}

#[test]
fn a_median_is_sure_only_of_much_that_was_measured() {
    assert_eq!(median_at_least([]), None);
    assert_eq!(median_at_least([1.0, 2.0, 3.0]), Some(1.0));
    // Of 100 tosses of a coin at least 42 are heads, 19 times of 20.
    assert_eq!(median_at_least((1..=100).map(f64::from)), Some(41.0));
}
