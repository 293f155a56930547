//! What a machine has counted, as `vm.counters` and the metrics show it: what the machine itself knows, and what the host's
//! kernel counts for it: the time of its vCPUs' threads, the traffic of its taps, the interrupts of its devices.

use std::fs;
use std::path::Path;

use devices::pci::PciAddress;
use serde_json::{Map, Value};
use vfio::Host;

use super::config::Configuration;
use super::manager::Overview;
use crate::machine::control::Counters;

/// Counters of a tap, as the dialect names them, and as the host's kernel does: what the tap receives the card has sent.
const TAP: [(&str, &str); 4] = [
    ("rx_bytes", "tx_bytes"),
    ("rx_frames", "tx_packets"),
    ("tx_bytes", "rx_bytes"),
    ("tx_frames", "rx_packets"),
];

/// A part of the machine, and what it has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// `vcpu`, `disk`, `net`, `device`, `memory`.
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) counts: Vec<(String, u64)>,
}

impl Part {
    fn new<'a>(kind: &'static str, id: String, counts: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        Self { kind, id, counts }
    }
}

/// All parts.
pub(super) fn parts(counters: &Counters, overview: &Overview) -> Vec<Part> {
    let Overview { configuration, info, .. } = overview;
    let devices: Vec<PciAddress> =
        info.iter().flat_map(|info| &info.devices).map(|place| place.host).collect();
    let mut parts = vcpus(counters);
    parts.extend(disks(counters));
    parts.extend(nets(configuration, Path::new("/sys/class/net")));
    let interrupts = Host::default().interrupts(&devices);
    parts.extend(devices.iter().zip(interrupts).map(|(address, interrupts)| {
        let id = configuration.id_of(*address).map_or_else(|| address.to_string(), str::to_owned);
        Part::new("device", id, [("interrupts", interrupts)])
    }));
    parts.push(Part::new("memory", "memory".to_owned(), [("allocated_bytes", counters.allocated)]));
    parts
}

/// `{"vcpu0": {"port_exits": 7}}`
pub(super) fn json_of(parts: Vec<Part>) -> Value {
    let counts = |counts: Vec<(String, u64)>| {
        counts.into_iter().map(|(name, count)| (name, count.into())).collect::<Map<String, Value>>()
    };
    parts.into_iter().map(|part| (part.id, counts(part.counts).into())).collect::<Map<String, Value>>().into()
}

fn vcpus(counters: &Counters) -> Vec<Part> {
    let vcpu = |(index, exits): (usize, &crate::hypervisor::exits::ExitCounts)| {
        let mut counts: Vec<(String, u64)> =
            exits.by_cause().into_iter().map(|(cause, count)| (format!("{cause}_exits"), count)).collect();
        let thread = counters.threads.get(index).copied().unwrap_or(0);
        counts.push(("cpu_time_us".to_owned(), cpu_time(thread).unwrap_or(0)));
        Part { kind: "vcpu", id: format!("vcpu{index}"), counts }
    };
    counters.exits.iter().enumerate().map(vcpu).collect()
}

fn disks(counters: &Counters) -> impl Iterator<Item = Part> {
    counters.disks.iter().map(|(id, disk)| {
        let counts = [
            ("read_bytes", disk.read_bytes),
            ("read_ops", disk.reads),
            ("write_bytes", disk.written_bytes),
            ("write_ops", disk.writes),
            ("other_ops", disk.others),
        ];
        Part::new("disk", id.clone(), counts)
    })
}

/// A tap that is gone, or in another network namespace, counts nothing.
fn nets(configuration: &Configuration, interfaces: &Path) -> Vec<Part> {
    let part = |(id, tap): (String, &str)| {
        let statistics = interfaces.join(tap).join("statistics");
        let read = |name: &str| fs::read_to_string(statistics.join(name)).ok()?.trim().parse().ok();
        let counts = TAP.map(|(name, of_host)| (name, read(of_host).unwrap_or(0)));
        Part::new("net", id, counts)
    };
    configuration.taps().into_iter().map(part).collect()
}

/// CPU time of a thread of ours in microseconds, that in the guest included (proc(5), `/proc/pid/task/tid/stat`).
fn cpu_time(thread: i32) -> Option<u64> {
    let ticks = ticks(&fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?)?;
    ticks.checked_mul(1_000_000)?.checked_div(rustix::param::clock_ticks_per_second())
}

/// The sum of `utime` and `stime`, fields 14 and 15; field 2, a name in brackets, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut time = || times.next()?.parse::<u64>().ok();
    time()?.checked_add(time()?)
}

#[cfg(test)]
#[path = "counters_test.rs"]
mod tests;
