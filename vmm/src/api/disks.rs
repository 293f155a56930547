//! Disks as the dialect describes them (DiskConfig), both ways.

use devices::disk::{DiskOptions, Format};
use devices::rate::{Limits, Rate};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::virtio::{name_of, placed_by_us, queue_size};
use crate::virtio::disk::DiskSpec;

/// The formats, by their names there.
const FORMATS: [(&str, Format); 2] = [("Raw", Format::Raw), ("Qcow2", Format::Qcow2)];
/// What of an image may be locked.
const LOCKS: [&str; 2] = ["ByteRange", "Full"];

pub(super) fn read(disk: &mut Fields) -> Option<DiskSpec> {
    let path = disk.path("path");
    if path.is_none() {
        disk.refuse("path", "is missing: it is the path of an image or of a block device");
    }
    let format = disk.text("image_type").filter(|name| name != "Unknown").and_then(|name| {
        let known = FORMATS.iter().find(|(known, _)| *known == name);
        if known.is_none() {
            disk.refuse("image_type", &format!("cannot be {name}; Raw and Qcow2 can be had"));
        }
        known.map(|(_, format)| *format)
    });
    let flag = |disk: &mut Fields, name| disk.flag(name).unwrap_or(false);
    let (read_only, direct) = (flag(disk, "readonly"), flag(disk, "direct"));
    let backing = flag(disk, "backing_files");
    let serial = disk.text("serial").unwrap_or_default();
    let queues = disk.number("num_queues").map(|queues| u16::try_from(queues).unwrap_or(u16::MAX));
    let limits = disk.object("rate_limiter_config", read_limits).unwrap_or_default();
    let id = name_of(disk);
    queue_size(disk);
    // The lock is on the whole image, as others see both.
    if disk.text("lock_granularity").is_some_and(|name| !LOCKS.contains(&name.as_str())) {
        disk.refuse("lock_granularity", "must be ByteRange or Full");
    }
    disk.only("vhost_user", false);
    disk.only("disable_io_uring", false);
    disk.only("disable_aio", false);
    disk.only("sparse", true);
    placed_by_us(disk);
    let options = DiskOptions { format, read_only, direct, backing, ..DiskOptions::new(path?) };
    Some(DiskSpec { id, serial, queues, limits, ..DiskSpec::new(options) })
}

fn read_limits(limits: &mut Fields) -> Limits {
    let bytes = limits.object("bandwidth", read_bucket).flatten();
    Limits { bytes, operations: limits.object("ops", read_bucket).flatten() }
}

/// A bucket of `size` tokens that is full again after `refill_time` milliseconds, and has more in it at first.
fn read_bucket(bucket: &mut Fields) -> Option<Rate> {
    let (size, refill) = (bucket.number("size"), bucket.number("refill_time"));
    let first = bucket.number("one_time_burst").unwrap_or(0);
    let (Some(size), Some(refill)) = (size, refill.filter(|refill| *refill > 0)) else {
        bucket.refuse("refill_time", "and size must be above 0");
        return None;
    };
    let per_second = size.saturating_mul(1000) / refill;
    Some(Rate { per_second, burst: size.saturating_add(first) })
}

pub(super) fn describe(disk: &DiskSpec) -> Value {
    let DiskOptions { path, format, read_only, direct, backing, lock: _ } = &disk.options;
    let mut described = Map::new();
    let mut put = |name: &str, value: Value| described.insert(name.to_owned(), value);
    disk.id.as_ref().map(|id| put("id", json!(id)));
    put("path", json!(path));
    put("readonly", json!(read_only));
    put("direct", json!(direct));
    put("backing_files", json!(backing));
    if let Some((name, _)) = FORMATS.iter().find(|(_, known)| Some(*known) == *format) {
        put("image_type", json!(name));
    }
    if !disk.serial.is_empty() {
        put("serial", json!(disk.serial));
    }
    disk.queues.map(|queues| put("num_queues", queues.into()));
    let bucket = |rate: Rate| json!({ "size": rate.burst, "refill_time": refill_time(rate) });
    let limits: Map<String, Value> = [("bandwidth", disk.limits.bytes), ("ops", disk.limits.operations)]
        .into_iter()
        .filter_map(|(name, rate)| Some((name.to_owned(), bucket(rate?))))
        .collect();
    if !limits.is_empty() {
        put("rate_limiter_config", limits.into());
    }
    Value::Object(described)
}

/// Milliseconds until a bucket of the burst's size is full again.
fn refill_time(rate: Rate) -> u64 {
    rate.burst.saturating_mul(1000).checked_div(rate.per_second).unwrap_or(0).max(1)
}
