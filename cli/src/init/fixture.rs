//! A small guest as files, for the tests of what reads sysfs and procfs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::system::System;

pub(super) struct Fixture {
    dir: TempDir,
}

impl Fixture {
    /// Two CPUs, 512 MiB, a host bridge, an NVMe with driver and MSI-X, a NIC without driver, and one broken
    /// function.
    pub(super) fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap() };
        fixture.write(
            "proc/meminfo",
            "MemTotal:         490112 kB\nMemFree: 1 kB\nMemAvailable:     461000 kB\n",
        );
        fixture.write("sys/devices/system/cpu/online", "0-1\n");
        fixture.write(
            "proc/interrupts",
            "           CPU0       CPU1\n\
             11:          5          0   IO-APIC  11-fasteoi   smbus\n\
             24:         12          0  PCI-MSIX-0000:00:01.0   0-edge   nvme0q0\n\
             25:          0         30  PCI-MSIX-0000:00:01.0   1-edge   nvme0q1\n",
        );
        fixture.function("0000:00:00.0", "0x060000", "0x8086", "0x0d57", "0");
        fixture.function("0000:00:01.0", "0x010802", "0x1b36", "0x0010", "24");
        fixture.bind("0000:00:01.0", "nvme");
        fixture.write("sys/bus/pci/devices/0000:00:01.0/msi_irqs/24", "msix\n");
        fixture.write("sys/bus/pci/devices/0000:00:01.0/msi_irqs/25", "msix\n");
        fixture.function("0000:00:02.0", "0x020000", "0x8086", "0x10d3", "11");
        fs::create_dir_all(fixture.path("sys/bus/pci/devices/0000:00:03.0")).unwrap();
        fixture
    }

    pub(super) fn system(&self) -> System {
        System::at(self.dir.path())
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    pub(super) fn bind(&self, address: &str, driver: &str) {
        fs::create_dir_all(self.path(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
        let link = self.path(&format!("sys/bus/pci/devices/{address}/driver"));
        let _ = fs::remove_file(&link);
        symlink(Path::new("../../../../bus/pci/drivers").join(driver), link).unwrap();
    }

    pub(super) fn unbind(&self, address: &str) {
        fs::remove_file(self.path(&format!("sys/bus/pci/devices/{address}/driver"))).unwrap();
    }

    /// Gives the NVMe's controller a state and, with a name, a namespace of 64 MiB.
    pub(super) fn nvme(&self, state: &str, namespace: Option<(&str, &str)>) {
        let controller = "sys/bus/pci/devices/0000:00:01.0/nvme/nvme0";
        self.write(&format!("{controller}/state"), state);
        if let Some((entry, block)) = namespace {
            fs::create_dir_all(self.path(&format!("{controller}/{entry}"))).unwrap();
            self.write(&format!("sys/class/block/{block}/size"), "131072\n");
        }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    fn function(&self, address: &str, class: &str, vendor: &str, device: &str, irq: &str) {
        for (name, value) in [("class", class), ("vendor", vendor), ("device", device), ("irq", irq)] {
            self.write(&format!("sys/bus/pci/devices/{address}/{name}"), &format!("{value}\n"));
        }
    }
}
