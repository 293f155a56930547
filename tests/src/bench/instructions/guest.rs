//! What is measured: what a guest does, and who runs it.

use serde::Serialize;

use super::INITRD;
use crate::host::NVME;

const MEMORY: &str = "256M";
const CMDLINE: &str = "console=ttyS0 quiet";
/// That of a machine without ACPI, which cannot be powered off: QEMU ends when it is reset, by a triple fault. What the kernel does not know
/// is in the environment of the script.
const CMDLINE_OF_MICROVM: &str = "console=ttyS0 quiet reboot=t end=reboot";
/// What QEMU's machines have in common: the console, and no device that the guest does not use.
const QEMU: &str = "-cpu host -nodefaults -no-user-config -display none -no-reboot \
                    -chardev stdio,id=console,signal=off -serial chardev:console";

/// What a guest does before it powers off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    /// Nothing.
    Plain,
    /// It reads 8 MiB from a passed-through NVMe.
    Nvme,
}

/// Who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Monitor {
    Vmm,
    /// QEMU's smallest machine, to which no device can be passed through.
    Microvm,
    /// QEMU's usual one.
    Q35,
}

impl Guest {
    pub(super) const ALL: [Guest; 2] = [Guest::Plain, Guest::Nvme];

    pub(super) fn name(self) -> &'static str {
        match self {
            Guest::Plain => "plain",
            Guest::Nvme => "an NVMe, 8 MiB read",
        }
    }

    pub(super) fn script(self) -> &'static str {
        match self {
            Guest::Plain => "${end:-poweroff} -f",
            Guest::Nvme => {
                "until dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 2>/dev/null; do sleep 0.01; done; poweroff -f"
            }
        }
    }

    /// Who can run it, vmm first.
    pub(super) fn monitors(self) -> &'static [Monitor] {
        match self {
            Guest::Plain => &[Monitor::Vmm, Monitor::Microvm, Monitor::Q35],
            Guest::Nvme => &[Monitor::Vmm, Monitor::Q35],
        }
    }

    /// What `monitor` runs it with in the lab host, on the kernel of this release in the host's /boot. `qemu` is how QEMU starts
    /// there.
    pub(super) fn command(self, monitor: Monitor, release: &str, qemu: &[String]) -> Vec<String> {
        let kernel = format!("/boot/vmlinuz-{release}");
        let mut command = match monitor {
            Monitor::Vmm => words("vmm run"),
            // With ACPI the lab's kernel finds no serial port in it; the clocks are what it needs without.
            Monitor::Microvm => {
                let machine = "-M microvm,accel=kvm,acpi=off,isa-serial=on,pit=on,pic=on,rtc=on";
                [qemu, &words(machine), &words(QEMU)].concat()
            }
            Monitor::Q35 => [qemu, &words("-M q35,accel=kvm"), &words(QEMU)].concat(),
        };
        let options = match monitor {
            Monitor::Vmm => ["--memory", "--kernel", "--initrd", "--cmdline"],
            Monitor::Microvm | Monitor::Q35 => ["-m", "-kernel", "-initrd", "-append"],
        };
        let cmdline = if monitor == Monitor::Microvm { CMDLINE_OF_MICROVM } else { CMDLINE };
        let values = [MEMORY, &kernel, INITRD, cmdline];
        command.extend(
            options.into_iter().zip(values).flat_map(|(option, value)| [option, value]).map(str::to_owned),
        );
        if self == Guest::Nvme {
            let device = match monitor {
                Monitor::Vmm => format!("--vfio {NVME}"),
                Monitor::Microvm | Monitor::Q35 => format!("-device vfio-pci,host={NVME}"),
            };
            command.extend(words(&device));
        }
        command
    }
}

impl Monitor {
    pub(super) fn name(self) -> &'static str {
        match self {
            Monitor::Vmm => "vmm",
            Monitor::Microvm => "QEMU microvm",
            Monitor::Q35 => "QEMU q35",
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
