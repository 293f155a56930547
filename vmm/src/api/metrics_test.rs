use serde_json::json;

use super::*;
use crate::hypervisor::exits::ExitCounts;

/// A sample of a page: name with labels, and value.
fn sample(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_running_machine_shows_what_it_counts() {
    let exits = ExitCounts { port: 7, mmio: 8, ..ExitCounts::default() };
    let phases = json!([{ "phase": "load kernel", "ms": 250.0, "bytes": null }]);
    let page = Metrics {
        pace: Some(Pace::Running),
        memory: Some(512 << 20),
        counters: Some(Counters { exits: vec![ExitCounts::default(), exits] }),
        phases: &phases,
        reboots: 2,
        resident: Some(4096),
    }
    .text();
    for (name, value) in [
        ("vmm_guest_running", 1.0),
        ("vmm_guest_paused", 0.0),
        ("vmm_guest_resets_total", 2.0),
        ("vmm_guest_memory_bytes", 536_870_912.0),
        ("process_resident_memory_bytes", 4096.0),
        ("vmm_vcpu_exits_total{vcpu=\"1\",cause=\"port\"}", 7.0),
        ("vmm_vcpu_exits_total{vcpu=\"1\",cause=\"mmio\"}", 8.0),
        ("vmm_vcpu_exits_total{vcpu=\"0\",cause=\"port\"}", 0.0),
        ("vmm_start_phase_seconds{phase=\"load kernel\"}", 0.25),
    ] {
        assert_eq!(sample(&page, name), Some(value), "{name}\n{page}");
    }
    // Each metric is described once, before its samples.
    let described: Vec<&str> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let mut once = described.clone();
    once.dedup();
    assert_eq!(described, once);
}

#[test]
fn without_a_machine_there_is_little_to_show() {
    let page = Metrics {
        pace: None,
        memory: None,
        counters: None,
        phases: &json!([]),
        reboots: 0,
        resident: resident(),
    }
    .text();
    assert_eq!(sample(&page, "vmm_guest_running"), Some(0.0));
    assert!(sample(&page, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 65536.0));
    assert!(!page.contains("vmm_vcpu_exits_total"));
}
