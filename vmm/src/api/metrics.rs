//! Metrics in the text format of Prometheus (version 0.0.4). Those of pinning are in `memory::pin::metrics`.

use std::fmt::Write;

use serde_json::Value;

use crate::machine::control::{Counters, Pace};

/// What is measured.
pub(super) struct Metrics<'a> {
    /// Whether the guest runs; `None` when there is none.
    pub(super) pace: Option<Pace>,
    /// RAM in bytes, if a machine has been created.
    pub(super) memory: Option<u64>,
    /// What the machine has counted, if it runs.
    pub(super) counters: Option<Counters>,
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
        if let Some(counters) = &self.counters {
            self.exits(&mut page, counters);
        }
        self.phases(&mut page);
        page.0
    }

    fn exits(&self, page: &mut Page, counters: &Counters) {
        let mut samples = Vec::new();
        for (index, exits) in counters.exits.iter().enumerate() {
            for (cause, count) in exits.by_cause() {
                samples.push((format!("{{vcpu=\"{index}\",cause=\"{cause}\"}}"), count as f64));
            }
        }
        let samples: Vec<(&str, f64)> =
            samples.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
        page.metric("vmm_vcpu_exits_total", "counter", "Times a vCPU has left the guest.", &samples);
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
        let samples: Vec<(&str, f64)> =
            samples.iter().map(|(labels, value)| (labels.as_str(), *value)).collect();
        if !samples.is_empty() {
            page.metric("vmm_start_phase_seconds", "gauge", "Phases of the last start or reset.", &samples);
        }
    }
}

/// The page as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Adds a metric with its samples: labels in braces, or nothing, and the value.
    fn metric(&mut self, name: &str, kind: &str, help: &str, samples: &[(&str, f64)]) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
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
