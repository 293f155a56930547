use serde_json::json;

use super::*;

/// A sample of a page: name with labels, and value.
fn sample(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_running_machine_shows_what_it_counts() {
    let part = |kind, id: &str, counts: &[(&str, u64)]| Part {
        kind,
        id: id.to_owned(),
        counts: counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
    };
    let parts = vec![
        part("vcpu", "vcpu0", &[("port_exits", 0), ("mmio_exits", 0), ("cpu_time_us", 2_500_000)]),
        part("vcpu", "vcpu1", &[("port_exits", 7), ("mmio_exits", 8), ("cpu_time_us", 0)]),
        part("disk", "_disk0", &[("read_bytes", 4096), ("read_ops", 1)]),
        part("disk", "_disk1", &[("read_bytes", 0), ("read_ops", 0)]),
        part("device", "a \"gpu\"", &[("interrupts", 9)]),
    ];
    let phases = json!([{ "phase": "load kernel", "ms": 250.0, "bytes": null }]);
    let statistics = Statistics::new([(5, 1000), (0, 3)].into_iter());
    let page = Metrics {
        pace: Some(Pace::Running),
        memory: Some(512 << 20),
        parts,
        latencies: vec![("_disk0".to_owned(), Latency::default())],
        balloon: Some(BalloonState { target: 4096, actual: 8192, statistics: Some(statistics) }),
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
        ("vmm_vcpu_cpu_seconds_total{vcpu=\"0\"}", 2.5),
        ("vmm_disk_read_bytes_total{disk=\"_disk0\"}", 4096.0),
        ("vmm_disk_read_ops_total{disk=\"_disk1\"}", 0.0),
        ("vmm_disk_request_seconds_bucket{disk=\"_disk0\",le=\"0.000016\"}", 0.0),
        ("vmm_disk_request_seconds_bucket{disk=\"_disk0\",le=\"+Inf\"}", 0.0),
        ("vmm_disk_request_seconds_count{disk=\"_disk0\"}", 0.0),
        ("vmm_device_interrupts_total{device=\"a \\\"gpu\\\"\"}", 9.0),
        ("vmm_start_phase_seconds{phase=\"load kernel\"}", 0.25),
    ] {
        assert_eq!(sample(&page, name), Some(value), "{name}\n{page}");
    }
    // Each metric is described once, before its samples.
    let described: Vec<&str> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let mut once = described.clone();
    once.dedup();
    assert_eq!(described, once);
    assert_eq!(sample(&page, "vmm_balloon_target_bytes"), Some(4096.0));
    assert_eq!(sample(&page, "vmm_balloon_actual_bytes"), Some(8192.0));
    assert_eq!(sample(&page, "vmm_balloon_guest_total_bytes"), Some(1000.0));
    assert_eq!(sample(&page, "vmm_balloon_guest_swapped_in_bytes_total"), Some(3.0));
    assert!(!page.contains("vmm_balloon_guest_free_bytes"));
}

#[test]
fn without_a_machine_there_is_little_to_show() {
    let page = Metrics {
        pace: None,
        memory: None,
        parts: Vec::new(),
        latencies: Vec::new(),
        balloon: None,
        phases: &json!([]),
        reboots: 0,
        resident: resident(),
    }
    .text();
    assert_eq!(sample(&page, "vmm_guest_running"), Some(0.0));
    assert!(sample(&page, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 65536.0));
    assert!(!page.contains("vmm_vcpu_exits_total"));
}
