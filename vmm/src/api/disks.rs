//! Disks as the dialect describes them (DiskConfig), both ways.

use devices::disk::{DiskOptions, Format};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::limits;
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
    let limits = limits::read(disk);
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
    limits::describe(disk.limits, &mut described);
    Value::Object(described)
}
