use super::*;

fn read(rate: &RateLimits) -> (Limits, Vec<String>) {
    let mut problems = Problems::default();
    let limits = rate.limits("--disk rate", &mut problems);
    (limits, problems.0.iter().map(|problem| problem.what.to_string()).collect())
}

#[test]
fn a_burst_is_a_tenth_of_a_second_unless_it_is_said() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let limits =
        RateLimits { bytes: Some(Size(5000)), ops: Some(100), ops_burst: Some(0), ..RateLimits::default() };
    assert_eq!(read(&limits), (Limits { bytes: rate(5000, 500), operations: rate(100, 0) }, vec![]));
    assert_eq!(read(&RateLimits::default()), (Limits::default(), vec![]));
}

#[test]
fn what_makes_no_sense_is_reported() {
    let limits = RateLimits { bytes: Some(Size(0)), ops_burst: Some(1), ..RateLimits::default() };
    let said = [
        "--disk rate.bytes=0 lets nothing through",
        "--disk rate.ops-burst says nothing without --disk rate.ops",
    ];
    assert_eq!(read(&limits).1, said);
}
