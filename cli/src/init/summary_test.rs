use std::time::Duration;

use super::*;
use crate::init::fixture::Fixture;

#[test]
fn a_guest_is_described() {
    let system = Fixture::new();
    let system = system.system();
    assert_eq!(memory_line(&system), "memory 478 MiB total, 450 MiB available");
    assert_eq!(system.cpus_online(), Some(2));
    assert_eq!(
        pci_lines(&system),
        [
            "pci 0000:00:00.0 host bridge [060000], 8086:0d57, no driver, no irqs",
            "pci 0000:00:01.0 NVMe controller [010802], 1b36:0010, driver nvme, 2 MSI-X, 42 interrupts",
            "pci 0000:00:02.0 Ethernet controller [020000], 8086:10d3, no driver, legacy irq 11, 5 interrupts",
            "pci 0000:00:03.0 device of unknown class [unknown], unknown:unknown, no driver, no irqs",
        ]
    );
}

#[test]
fn a_reading_is_one_line() {
    let reading = |bytes| Reading { bytes, sha256: "ab12".into(), took: Duration::from_micros(12_900) };
    assert_eq!(
        reading_line("nvme0n1", &reading(8 << 20)),
        "read 8 MiB from /dev/nvme0n1, sha256 ab12, 12 ms"
    );
    assert_eq!(
        reading_line("nvme0n1", &reading(512)),
        "read 512 bytes from /dev/nvme0n1, sha256 ab12, 12 ms"
    );
    let disk = Disk { name: "nvme0n1".into(), function: "0000:00:01.0".into(), bytes: None };
    assert_eq!(disk_line(&disk), "disk /dev/nvme0n1, unknown bytes, on 0000:00:01.0");
}

#[test]
fn a_summary_goes_to_its_end_whatever_is_missing() {
    let lines = |system: &System| {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        machine(system, &mut report);
        devices(system, &mut report);
        let text = String::from_utf8(out).unwrap();
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(&System::at("/nonexistent")),
        [
            "cpus unknown online",
            "memory unknown MiB total, unknown MiB available",
            "summary complete: 0 PCI devices, 0 disks read, 0 problems",
        ]
    );
    let fixture = Fixture::new();
    fixture.nvme("live\n", Some(("nvme0n1", "nvme0n1")));
    fixture.nvme("live\n", Some(("nvme0n2", "nvme0n2")));
    fixture.write("dev/nvme0n2", "abc");
    let lines = lines(&fixture.system());
    assert_eq!(lines[0], "cpus 2 online");
    assert_eq!(
        lines[6..9],
        [
            "disk /dev/nvme0n1, 67108864 bytes, on 0000:00:01.0",
            "problem: cannot read /dev/nvme0n1: No such file or directory (os error 2)",
            "disk /dev/nvme0n2, 67108864 bytes, on 0000:00:01.0",
        ]
    );
    assert!(lines[9].starts_with("read 3 bytes from /dev/nvme0n2, sha256 ba7816bf"));
    assert_eq!(lines[10], "summary complete: 4 PCI devices, 1 disks read, 1 problems");
}
