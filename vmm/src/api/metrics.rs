//! Metrics in the text format of Prometheus (version 0.0.4). Those of pinning are in `memory::pin::metrics`.

use std::fmt::Write;

use serde_json::Value;

use devices::virtio::balloon::{BalloonState, Statistic, Statistics};
use devices::virtio::blk::Latency;

use super::counters::Part;
use crate::machine::control::Pace;

/// What is measured.
pub(super) struct Metrics<'a> {
    /// Whether the guest runs; `None` when there is none.
    pub(super) pace: Option<Pace>,
    /// RAM in bytes, if a machine has been created.
    pub(super) memory: Option<u64>,
    /// What the machine has counted, if it runs.
    pub(super) parts: Vec<Part>,
    /// How long requests of each disk took.
    pub(super) latencies: Vec<(String, Latency)>,
    /// Its balloon, if it runs and has one.
    pub(super) balloon: Option<BalloonState>,
    /// The phases of the last start.
    pub(super) phases: &'a Value,
    /// How often the guest has been reset.
    pub(super) reboots: u64,
    /// Resident memory of this process in bytes, guest memory included.
    pub(super) resident: Option<u64>,
}

impl Metrics<'_> {
    /// The text.
    pub(super) fn text(&self) -> String {
        let mut page = Page::default();
        let running = self.pace.is_some_and(|pace| pace != Pace::Paused);
        page.metric(
            "vmm_guest_running",
            "gauge",
            "Whether the guest runs.",
            &[("", u8::from(running).into())],
        );
        let paused = self.pace == Some(Pace::Paused);
        page.metric(
            "vmm_guest_paused",
            "gauge",
            "Whether the guest is paused.",
            &[("", u8::from(paused).into())],
        );
        page.metric(
            "vmm_guest_resets_total",
            "counter",
            "Resets of the guest.",
            &[("", self.reboots as f64)],
        );
        if let Some(memory) = self.memory {
            page.metric("vmm_guest_memory_bytes", "gauge", "RAM of the guest.", &[("", memory as f64)]);
        }
        if let Some(resident) = self.resident {
            let help = "Memory of this process, what the guest has touched included.";
            page.metric("process_resident_memory_bytes", "gauge", help, &[("", resident as f64)]);
        }
        if !self.parts.is_empty() {
            self.exits(&mut page);
            self.counted(&mut page);
            self.latencies(&mut page);
        }
        self.balloon(&mut page);
        self.phases(&mut page);
        page.0
    }

    fn exits(&self, page: &mut Page) {
        let (mut exits, mut times) = (Vec::new(), Vec::new());
        let vcpus = self.parts.iter().filter(|part| part.kind == "vcpu").enumerate();
        for (index, (name, count)) in
            vcpus.flat_map(|(index, part)| part.counts.iter().map(move |it| (index, it)))
        {
            match name.strip_suffix("_exits") {
                Some(cause) => exits.push((format!("{{vcpu=\"{index}\",cause=\"{cause}\"}}"), *count as f64)),
                None => times.push((format!("{{vcpu=\"{index}\"}}"), *count as f64 / 1e6)),
            }
        }
        page.metric("vmm_vcpu_exits_total", "counter", "Times a vCPU has left the guest.", &borrowed(&exits));
        let help = "CPU time of a vCPU's thread since the last reset.";
        page.metric("vmm_vcpu_cpu_seconds_total", "counter", help, &borrowed(&times));
    }

    /// Counters of devices, one metric for each kind and count.
    fn counted(&self, page: &mut Page) {
        for kind in ["disk", "net", "device"] {
            let parts: Vec<&Part> = self.parts.iter().filter(|part| part.kind == kind).collect();
            let names =
                parts.first().map(|part| part.counts.iter().map(|(name, _)| name)).into_iter().flatten();
            for (index, name) in names.enumerate() {
                let sample = |part: &&Part| {
                    let (_, count) = part.counts.get(index)?;
                    Some((format!("{{{kind}=\"{}\"}}", escape(&part.id)), *count as f64))
                };
                let samples: Vec<(String, f64)> = parts.iter().filter_map(sample).collect();
                let help = format!("As {name} of {kind}s in vm.counters.");
                page.metric(&format!("vmm_{kind}_{name}_total"), "counter", &help, &borrowed(&samples));
            }
        }
    }

    fn latencies(&self, page: &mut Page) {
        if self.latencies.is_empty() {
            return;
        }
        const NAME: &str = "vmm_disk_request_seconds";
        page.describe(NAME, "histogram", "How long requests of a disk took.");
        for (id, latency) in &self.latencies {
            let id = escape(id);
            for (longest, requests) in latency.at_most() {
                let le =
                    longest.map_or_else(|| "+Inf".to_owned(), |longest| longest.as_secs_f64().to_string());
                page.sample(
                    &format!("{NAME}_bucket"),
                    &format!("{{disk=\"{id}\",le=\"{le}\"}}"),
                    requests as f64,
                );
            }
            let labels = format!("{{disk=\"{id}\"}}");
            page.sample(&format!("{NAME}_sum"), &labels, latency.total.as_secs_f64());
            page.sample(&format!("{NAME}_count"), &labels, latency.requests() as f64);
        }
    }

    fn balloon(&self, page: &mut Page) {
        let Some(BalloonState { target, actual, statistics }) = &self.balloon else { return };
        let help = "Memory that the balloon is to take from the guest.";
        page.metric("vmm_balloon_target_bytes", "gauge", help, &[("", *target as f64)]);
        let help = "Memory that the guest says the balloon has.";
        page.metric("vmm_balloon_actual_bytes", "gauge", help, &[("", *actual as f64)]);
        for Statistic { name, value, counted } in statistics.iter().flat_map(Statistics::all) {
            let (kind, total) = if counted { ("counter", "_total") } else { ("gauge", "") };
            let help = format!("As {name} of the balloon's statistics in vm.info.");
            page.metric(&format!("vmm_balloon_guest_{name}{total}"), kind, &help, &[("", value as f64)]);
        }
        if let Some(statistics) = statistics {
            let help = "Time since the guest has told of its memory.";
            let age = statistics.taken.elapsed().as_secs_f64();
            page.metric("vmm_balloon_statistics_age_seconds", "gauge", help, &[("", age)]);
        }
    }

    fn phases(&self, page: &mut Page) {
        let mut samples = Vec::new();
        for phase in self.phases.as_array().into_iter().flatten() {
            if let (Some(name), Some(ms)) =
                (phase.get("phase").and_then(Value::as_str), phase.get("ms").and_then(Value::as_f64))
            {
                samples.push((format!("{{phase=\"{name}\"}}"), ms / 1e3));
            }
        }
        if !samples.is_empty() {
            let help = "Phases of the last start or reset.";
            page.metric("vmm_start_phase_seconds", "gauge", help, &borrowed(&samples));
        }
    }
}

fn borrowed(samples: &[(String, f64)]) -> Vec<(&str, f64)> {
    samples.iter().map(|(labels, value)| (labels.as_str(), *value)).collect()
}

/// The value of a label: clients choose names of devices.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The page as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Adds a metric with its samples: labels in braces, or nothing, and the value.
    fn metric(&mut self, name: &str, kind: &str, help: &str, samples: &[(&str, f64)]) {
        self.describe(name, kind, help);
        samples.iter().for_each(|(labels, value)| self.sample(name, labels, *value));
    }

    /// Says what the samples are that follow. Writing to a string cannot fail.
    fn describe(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// Resident memory of this process, in bytes.
pub(super) fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
