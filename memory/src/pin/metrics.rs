//! The record of a bring-up as metrics, in Prometheus' text format (version 0.0.4): the file that `--metrics` writes, for
//! node_exporter's textfile collector. Documented in docs/operating.md.
//!
//! All are gauges: a file tells of one bring-up, and nothing in it adds up over time. Every sample names all devices of
//! the machine, which no other machine has at the same time, so that files of several machines lie side by side.

use std::fmt::Write;

use super::record::{Counters, Record, Residency};

impl Record {
    /// The metrics.
    pub fn metrics(&self) -> String {
        let mut page = Page::new(&self.devices);
        self.write_outcome(&mut page);
        self.write_pinned(&mut page);
        self.write_host(&mut page);
        page.text
    }

    fn write_outcome(&self, page: &mut Page) {
        page.family("success", "Whether guest memory was brought up.");
        page.plain(f64::from(u8::from(self.pinned.is_some())));
        if let Some(failed) = &self.failed {
            page.family("failure_info", "Why it was not, as the kind in the report.");
            page.sample(&[("kind", failed.kind)], 1.0);
            page.family("failure_attempts", "How often the part that failed was tried.");
            page.plain(f64::from(failed.attempts));
            page.family("failure_duration_seconds", "How long the part that failed was tried.");
            page.plain(seconds(failed.elapsed_ms));
        }
        page.family("memory_bytes", "Guest memory.");
        page.plain(self.memory_bytes as f64);
        page.family("device_memory_bytes", "Guest memory that is pinned and mapped for a device.");
        let mapped = if self.pinned.is_some() { self.memory_bytes as f64 } else { 0.0 };
        for device in &self.devices {
            page.sample(&[("device", device)], mapped);
        }
    }

    fn write_pinned(&self, page: &mut Page) {
        let Some(pinned) = &self.pinned else { return };
        page.family("duration_seconds", "How long each phase of the bring-up took.");
        let phases = [
            ("waiting", pinned.waited_ms),
            ("populating", pinned.populating_ms),
            ("pinning", pinned.pinning_ms),
        ];
        for (phase, ms) in phases {
            page.sample(&[("phase", phase)], seconds(ms));
        }
        page.family("resident_pages", "Pages of guest memory by where they lie, when found and now.");
        for (when, residency) in [("found", &pinned.found), ("now", &pinned.now)] {
            if let Some(residency) = residency {
                write_residency(page, when, residency);
            }
        }
        page.family("resident_pages_exact", "Whether pages were counted, not estimated.");
        for (when, residency) in [("found", &pinned.found), ("now", &pinned.now)] {
            if let Some(residency) = residency {
                page.sample(&[("when", when)], f64::from(u8::from(residency.exact)));
            }
        }
        page.family("misplaced_pages", "Pinned pages that certainly lie in CMA or ZONE_MOVABLE.");
        page.plain(pinned.misplaced_pages as f64);
        page.family("retries", "Attempts that were refused and made again.");
        page.plain(pinned.retries as f64);
        page.family("culprits", "Parts of up to 2 MiB that were refused by themselves.");
        page.plain(pinned.culprits as f64);
        page.family("replaced_culprits", "Culprits that were given new pages.");
        page.plain(pinned.replaced as f64);
        page.family("mappings", "DMA maps that were made.");
        page.plain(pinned.mappings as f64);
        page.family("pinned_by_dma_map_bytes", "Memory that the DMA map pinned without a trial pin.");
        page.plain(pinned.pinned_by_dma_map_bytes as f64);
        page.family("node_bytes", "Memory that was to be allocated on a NUMA node.");
        for node in &pinned.nodes {
            page.sample(&[("node", &node.node.to_string())], node.bytes as f64);
        }
        page.family("host_events", "Growth of a counter of /proc/vmstat meanwhile, host-wide.");
        for (name, grown) in pinned.counters.as_ref().map(Counters::named).into_iter().flatten() {
            page.sample(&[("counter", name)], grown as f64);
        }
    }

    fn write_host(&self, page: &mut Page) {
        let host = &self.host;
        if let Some(pinnable) = host.pinnable {
            page.family("host_pinnable_bytes", "Available memory outside CMA and ZONE_MOVABLE, afterwards.");
            page.plain(pinnable as f64);
        }
        page.family("host_cma_bytes", "Memory in CMA areas.");
        page.plain(host.cma_total as f64);
        page.family("host_cma_free_bytes", "Free memory in CMA areas, afterwards.");
        page.plain(host.cma_free as f64);
        page.family("host_hugetlb_cma_bytes", "Memory in CMA areas for huge pages.");
        page.plain(host.hugetlb_cma_bytes as f64);
        page.family("host_movable_bytes", "What ZONE_MOVABLE spans.");
        page.plain(host.movable as f64);
    }
}

fn write_residency(page: &mut Page, when: &str, residency: &Residency) {
    let Residency { normal, cma, movable, absent, .. } = *residency;
    for (place, pages) in [("normal", normal), ("cma", cma), ("movable", movable), ("absent", absent)] {
        page.sample(&[("when", when), ("place", place)], pages as f64);
    }
}

/// Of milliseconds, to the microsecond.
fn seconds(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e6
}

/// A page of metrics in the making.
struct Page {
    text: String,
    /// The label that all samples have.
    devices: String,
    /// Name of the family that is being written.
    family: &'static str,
}

impl Page {
    fn new(devices: &[String]) -> Self {
        Self { text: String::new(), devices: devices.join(","), family: "" }
    }

    /// Begins a family.
    fn family(&mut self, name: &'static str, help: &str) {
        self.family = name;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP vmm_pin_{name} {help}\n# TYPE vmm_pin_{name} gauge");
    }

    /// A sample without labels of its own.
    fn plain(&mut self, value: f64) {
        self.sample(&[], value);
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.text, "vmm_pin_{}{{devices=\"{}\"", self.family, escaped(&self.devices));
        for (name, text) in labels {
            let _ = write!(self.text, ",{name}=\"{}\"", escaped(text));
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

/// A label's value as it is quoted.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
