//! The page: a line for each machine, and below it one for each of its vCPUs, disks, network cards and passed-through
//! devices. Made of what machines answer, which may be anything.

use memory::bytes::Bytes;
use serde_json::Value;

use super::sample::{Machine, Sample};
use crate::ctl::show::{table, word};
use crate::report;

/// vCPUs that have a line; those that do more come first.
const VCPUS: usize = 8;
/// Causes of exits that are named.
const CAUSES: usize = 3;

/// The lines, none wider than `columns`.
pub(super) fn render(machines: &[Machine], columns: usize) -> Vec<String> {
    let mut rows = vec![["MACHINE", "STATE", "CPU", "EXITS/s", "MEMORY", "PID"].map(str::to_owned).to_vec()];
    rows.extend(machines.iter().map(summary));
    let heads = table(&rows);
    let mut heads = heads.lines().map(str::to_owned);
    let mut lines: Vec<String> = heads.next().into_iter().collect();
    for (machine, head) in machines.iter().zip(heads) {
        lines.push(head);
        lines.extend(parts(machine).lines().map(|line| format!("  {line}")));
    }
    lines.iter().map(|line| report::printable(line).chars().take(columns).collect()).collect()
}

fn summary(machine: &Machine) -> Vec<String> {
    let name =
        machine.socket.file_stem().unwrap_or(machine.socket.as_os_str()).to_string_lossy().into_owned();
    let sample = match &machine.now {
        Ok(sample) => sample,
        Err(error) => return vec![name, error.clone()],
    };
    let vcpus: Vec<&str> = vcpus(sample);
    let busy: f64 = vcpus.iter().map(|vcpu| machine.rate(vcpu, "cpu_time_us")).sum();
    let exits: f64 = vcpus.iter().flat_map(|vcpu| causes(machine, sample, vcpu)).map(|(_, rate)| rate).sum();
    let memory = sample.info.get("memory_actual_size").and_then(Value::as_u64).unwrap_or(0);
    let allocated = sample.count("memory", "allocated_bytes");
    let memory = match (memory, vcpus.is_empty()) {
        (0, _) => String::new(),
        (memory, true) => Bytes(memory).to_string(),
        (memory, false) => format!("{:.1} of {}", Bytes(allocated), Bytes(memory)),
    };
    let running = |text: String| if vcpus.is_empty() { String::new() } else { text };
    vec![
        name,
        word(&sample.state, "state"),
        running(percent(busy)),
        running(format!("{exits:.0}")),
        memory,
        word(&sample.ping, "pid"),
    ]
}

/// What a machine is made of, as a table.
fn parts(machine: &Machine) -> String {
    let Ok(sample) = &machine.now else { return String::new() };
    let mut rows = vcpu_rows(machine, sample);
    for part in sample.parts() {
        let rate = |name: &str| machine.rate(part, name);
        let traffic = |verb: &str, bytes: &str, count: &str, unit: &str| {
            format!("{verb} {}/s, {:.0} {unit}/s", size(rate(bytes)), rate(count))
        };
        let has = |name: &str| sample.counters.get(part).is_some_and(|counts| counts.get(name).is_some());
        let what = if has("read_ops") {
            vec![
                traffic("reads", "read_bytes", "read_ops", "requests"),
                traffic("writes", "write_bytes", "write_ops", "requests"),
            ]
        } else if has("rx_frames") {
            vec![
                traffic("receives", "rx_bytes", "rx_frames", "frames"),
                traffic("sends", "tx_bytes", "tx_frames", "frames"),
            ]
        } else if has("interrupts") {
            vec![format!("{:.0} interrupts/s", rate("interrupts"))]
        } else {
            continue;
        };
        let mut row = vec![part.to_owned(), of_host(sample, part)];
        row.extend(what);
        rows.push(row);
    }
    table(&rows)
}

/// Those that do most, in their order.
fn vcpu_rows(machine: &Machine, sample: &Sample) -> Vec<Vec<String>> {
    let all = vcpus(sample);
    let mut busiest = all.clone();
    let time = |vcpu: &str| machine.rate(vcpu, "cpu_time_us");
    busiest.sort_by(|one, other| time(other).total_cmp(&time(one)));
    busiest.truncate(VCPUS);
    let mut rows: Vec<Vec<String>> = all
        .iter()
        .filter(|vcpu| busiest.contains(vcpu))
        .map(|vcpu| {
            let mut causes = causes(machine, sample, vcpu);
            let total: f64 = causes.iter().map(|(_, rate)| rate).sum();
            causes.retain(|(_, rate)| *rate >= 1.0);
            causes.sort_by(|one, other| other.1.total_cmp(&one.1));
            let causes = causes.iter().take(CAUSES).map(|(cause, rate)| format!("{cause} {rate:.0}"));
            let causes = causes.collect::<Vec<_>>().join(", ");
            vec![(*vcpu).to_owned(), percent(time(vcpu)), format!("{total:.0} exits/s"), causes]
        })
        .collect();
    if all.len() > VCPUS {
        rows.push(vec![format!("and {} vCPUs that do less", all.len() - VCPUS)]);
    }
    rows
}

/// The vCPUs, by number.
fn vcpus(sample: &Sample) -> Vec<&str> {
    let number = |part: &str| part.strip_prefix("vcpu")?.parse::<u32>().ok();
    let mut vcpus: Vec<(u32, &str)> = sample.parts().filter_map(|part| Some((number(part)?, part))).collect();
    vcpus.sort_unstable();
    vcpus.into_iter().map(|(_, part)| part).collect()
}

/// Why a vCPU leaves the guest, and how often a second.
fn causes<'a>(machine: &Machine, sample: &'a Sample, vcpu: &str) -> Vec<(&'a str, f64)> {
    let names =
        sample.counters.get(vcpu).and_then(Value::as_object).into_iter().flat_map(|counts| counts.keys());
    let cause = |name: &'a String| Some((name.strip_suffix("_exits")?, machine.rate(vcpu, name)));
    names.filter_map(cause).collect()
}

/// What of the host a device is, by its name: a disk's image, a card's tap, a device's address.
fn of_host(sample: &Sample, part: &str) -> String {
    let configured = |list: &str| sample.info.pointer(&format!("/config/{list}")).and_then(Value::as_array);
    let by_number = |prefix: &str, list: &str, field: &str| {
        let index: usize = part.strip_prefix(prefix)?.parse().ok()?;
        configured(list)?.get(index).map(|device| word(device, field))
    };
    let by_id =
        || configured("devices")?.iter().find(|device| word(device, "id") == part).map(|it| word(it, "path"));
    let path = by_number("_disk", "disks", "path").or_else(|| by_number("_net", "net", "tap")).or_else(by_id);
    path.unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned()
}

/// Of one CPU; from microseconds a second.
fn percent(rate: f64) -> String {
    format!("{:.0} %", rate / 1e4)
}

fn size(rate: f64) -> String {
    format!("{:.1}", Bytes(rate as u64))
}
