use proptest::prelude::*;

use super::*;

fn bucket(per_second: u64, burst: u64) -> Bucket {
    Bucket::new(Rate { per_second, burst })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_burst_passes_and_what_follows_is_paced() {
    let mut bucket = bucket(1000, 100);
    for _ in 0..=100 {
        assert_eq!(bucket.wait(ms(0)), None);
        bucket.charge(ms(0), 1);
    }
    assert_eq!(bucket.wait(ms(0)), Some(ms(1)));
    assert_eq!(bucket.wait(ms(1)), None);
    bucket.charge(ms(1), 1);
    assert_eq!(bucket.wait(ms(1)), Some(ms(1)));
}

#[test]
fn a_large_request_passes_once_and_is_paid_for_later() {
    let mut bucket = bucket(1000, 10);
    assert_eq!(bucket.wait(ms(0)), None);
    bucket.charge(ms(0), 5000);
    assert_eq!(bucket.wait(ms(0)), Some(ms(4990)));
    assert_eq!(bucket.wait(ms(4990)), None);
}

#[test]
fn idleness_saves_no_more_than_the_burst() {
    let mut bucket = bucket(1000, 10);
    let later = ms(1_000_000);
    bucket.charge(later, 11);
    assert_eq!(bucket.wait(later), Some(ms(1)));
}

#[test]
fn the_stricter_limit_counts() {
    let rate = |per_second| Some(Rate { per_second, burst: 0 });
    let limiter = RateLimiter::new(Limits { bytes: rate(1 << 30), operations: rate(1) }).unwrap();
    assert_eq!(limiter.wait(), None);
    limiter.charge(1);
    assert!(limiter.wait().unwrap() > ms(100));
    assert!(RateLimiter::new(Limits::default()).is_none());
}

proptest! {
    #[test]
    fn never_more_than_burst_and_rate(
        per_second in 1_u64..10_000, burst in 0_u64..1000, steps in prop::collection::vec((0_u64..500, 1_u64..300), 1..100)
    ) {
        let (mut bucket, mut now, mut done, mut largest) = (bucket(per_second, burst), ms(0), 0_u64, 0);
        for (pause, amount) in steps {
            now += ms(pause);
            if let Some(wait) = bucket.wait(now) {
                now += wait;
            }
            prop_assert_eq!(bucket.wait(now), None);
            bucket.charge(now, amount);
            done += amount;
            largest = largest.max(amount);
            let allowed = now.as_nanos() * u128::from(per_second) / 1_000_000_000 + u128::from(burst + largest) + 1;
            prop_assert!(u128::from(done) <= allowed);
        }
    }
}
