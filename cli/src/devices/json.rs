//! All about the devices, for programs. Fields are added, never changed; `schema` says when they are after all.

use miette::Diagnostic;
use serde::Serialize;

use super::Entry;
use super::names::Names;

#[derive(Serialize)]
struct List<'a> {
    schema: &'static str,
    devices: Vec<Device<'a>>,
}

#[derive(Serialize)]
struct Device<'a> {
    address: String,
    /// Six hexadecimal digits; IDs have four.
    class: String,
    class_name: &'a str,
    vendor: String,
    vendor_name: Option<&'a str>,
    device: String,
    device_name: Option<&'a str>,
    driver: Option<&'a str>,
    /// Of a device that was bound by vmm: the driver it had.
    former_driver: Option<&'a str>,
    iommu_group: Option<Group<'a>>,
    numa_node: Option<u32>,
    reset_methods: &'a [String],
    bars: Vec<Bar>,
    ready: bool,
    /// What is wrong with it since a guest had it.
    mark: Option<&'a str>,
    summary: String,
    in_use: Vec<String>,
    obstacles: Vec<Obstacle>,
}

#[derive(Serialize)]
struct Group<'a> {
    id: u32,
    members: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct Member<'a> {
    address: String,
    driver: Option<&'a str>,
}

#[derive(Serialize)]
struct Bar {
    index: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct Obstacle {
    problem: String,
    remedy: Option<String>,
}

pub(super) fn render(entries: &[Entry], names: &Names) -> String {
    let devices = entries.iter().map(|entry| device(entry, names)).collect();
    let list = List { schema: "vmm-devices/1", devices };
    serde_json::to_string_pretty(&list).map(|text| escape(&text) + "\n").unwrap_or_default()
}

/// Escapes those control characters, too, that JSON lets stand in strings: they are nothing for a terminal.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => escaped += &format!("\\u{:04x}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    escaped
}

fn device<'a>(entry: &'a Entry, names: &'a Names) -> Device<'a> {
    let host = &entry.device;
    let member = |member: &'a vfio::sysfs::Member| Member {
        address: member.address.to_string(),
        driver: member.driver.as_deref(),
    };
    let group = |group: &'a vfio::sysfs::Group| Group {
        id: group.id,
        members: group.members.iter().map(member).collect(),
    };
    let bars = host.bar_sizes.iter().enumerate().filter(|(_, bytes)| **bytes != 0);
    let obstacle = |error: &vfio::PreflightError| Obstacle {
        problem: error.to_string(),
        remedy: error.help().map(|help| help.to_string()),
    };
    Device {
        address: host.address.to_string(),
        class: format!("{:06x}", host.class),
        class_name: names.class(host.class),
        vendor: format!("{:04x}", host.vendor),
        vendor_name: names.vendor(host.vendor),
        device: format!("{:04x}", host.device),
        device_name: names.device(host.vendor, host.device),
        driver: host.driver.as_deref(),
        former_driver: entry.record.as_ref().and_then(|record| record.driver.as_deref()),
        iommu_group: host.group.as_ref().map(group),
        numa_node: host.numa_node,
        reset_methods: &host.reset_methods,
        bars: bars.map(|(index, bytes)| Bar { index, bytes: *bytes }).collect(),
        ready: entry.is_ready(),
        mark: entry.mark.as_deref(),
        summary: entry.verdict(),
        in_use: entry.readiness.uses.iter().map(ToString::to_string).collect(),
        obstacles: entry.readiness.obstacles.iter().map(obstacle).collect(),
    }
}
