use super::*;

#[test]
fn requests_are_counted_by_their_time() {
    let histogram = Histogram::default();
    for micros in [0, 16, 17, 64, 1_000_000, 3_600_000_000] {
        histogram.count(Duration::from_micros(micros));
    }
    let latency = histogram.latency();
    assert_eq!(latency.requests(), 6);
    assert_eq!(latency.total, Duration::from_micros(3_601_000_097));
    let at_most: Vec<(Option<Duration>, u64)> = latency.at_most().collect();
    assert_eq!(at_most.first(), Some(&(Some(Duration::from_micros(16)), 2)));
    assert_eq!(at_most.get(1), Some(&(Some(Duration::from_micros(64)), 4)));
    let second = at_most.iter().find(|(longest, _)| longest.is_some_and(|it| it >= Duration::from_secs(1)));
    assert_eq!(second, Some(&(Some(Duration::from_micros(16 << 16)), 5)));
    assert_eq!(at_most.last(), Some(&(None, 6)));
    assert_eq!(at_most.len(), CLASSES);
}
