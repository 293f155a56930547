//! Limits as the dialect describes them (RateLimiterConfig), both ways.

use devices::rate::{Limits, Rate};
use serde_json::{Map, Value, json};

use super::fields::Fields;

/// Reads the limits of a device, if it has any.
pub(super) fn read(device: &mut Fields) -> Limits {
    let read = |limits: &mut Fields| {
        let bytes = limits.object("bandwidth", read_bucket).flatten();
        Limits { bytes, operations: limits.object("ops", read_bucket).flatten() }
    };
    device.object("rate_limiter_config", read).unwrap_or_default()
}

/// A bucket of `size` tokens that is full again after `refill_time` milliseconds, and has more in it at first.
fn read_bucket(bucket: &mut Fields) -> Option<Rate> {
    let mut above_0 = |name| bucket.number(name).filter(|number| *number > 0);
    let (size, refill) = (above_0("size"), above_0("refill_time"));
    let first = bucket.number("one_time_burst").unwrap_or(0);
    let (Some(size), Some(refill)) = (size, refill) else {
        bucket.refuse("refill_time", "and size must be above 0");
        return None;
    };
    // Slower than one a second is not to be had.
    let per_second = (size.saturating_mul(1000) / refill).max(1);
    Some(Rate { per_second, burst: size.saturating_add(first) })
}

/// Adds limits to a device's description, if it has any.
pub(super) fn describe(limits: Limits, device: &mut Map<String, Value>) {
    let bucket = |rate: Rate| json!({ "size": rate.burst, "refill_time": refill_time(rate) });
    let described: Map<String, Value> = [("bandwidth", limits.bytes), ("ops", limits.operations)]
        .into_iter()
        .filter_map(|(name, rate)| Some((name.to_owned(), bucket(rate?))))
        .collect();
    if !described.is_empty() {
        device.insert("rate_limiter_config".to_owned(), described.into());
    }
}

/// Milliseconds until a bucket of the burst's size is full again.
fn refill_time(rate: Rate) -> u64 {
    rate.burst.saturating_mul(1000).checked_div(rate.per_second).unwrap_or(0).max(1)
}
