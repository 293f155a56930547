//! Who is measured: vmm, and QEMU with the machines that it has for such guests.

use super::INITRD;
use crate::host::NVME;
use crate::setup::Qemu;

/// The name of vmm's rows begins so.
pub(super) const VMM: &str = "vmm";
const MEMORY: &str = "256M";
const CMDLINE: &str = "console=ttyS0 quiet";

/// What a guest does before it powers off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    /// Nothing.
    Plain,
    /// It reads 8 MiB from a passed-through NVMe.
    Nvme,
}

impl Guest {
    pub(super) fn name(self) -> &'static str {
        match self {
            Guest::Plain => "plain",
            Guest::Nvme => "an NVMe, 8 MiB read",
        }
    }

    pub(super) fn script(self) -> &'static str {
        match self {
            Guest::Plain => "poweroff -f",
            Guest::Nvme => {
                "until dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 2>/dev/null; do sleep 0.01; done; poweroff -f"
            }
        }
    }
}

/// Somebody who runs a guest.
pub(super) struct Contender {
    pub(super) name: String,
    /// What runs it in the lab host.
    pub(super) command: Vec<String>,
}

impl Contender {
    /// Those who can run `guest`, on the kernel of this release in the host's /boot. QEMU's smallest machine has no PCI bus.
    pub(super) fn all(guest: Guest, qemu: &Qemu, release: &str) -> Vec<Contender> {
        let kernel = format!("/boot/vmlinuz-{release}");
        let named =
            |who: &str, command: Vec<String>| Contender { name: format!("{who}, {}", guest.name()), command };
        let mut vmm = words("vmm run --memory");
        vmm.extend(
            [MEMORY, "--kernel", &kernel, "--initrd", INITRD, "--cmdline", CMDLINE].map(str::to_owned),
        );
        if guest == Guest::Nvme {
            vmm.extend(["--vfio", NVME].map(str::to_owned));
        }
        let mut all = vec![named(VMM, vmm)];
        let Some(directory) = qemu.directory().and_then(|directory| directory.file_name()) else {
            return all;
        };
        let program = Qemu::words_at(&format!("/lab/{}", directory.to_string_lossy()));
        let mut with = |machine: &str| {
            let mut command = program.to_vec();
            command.extend(words(
                "-nodefaults -no-user-config -no-reboot -display none -serial stdio -cpu host",
            ));
            command.extend(["-m", MEMORY, "-M", machine, "-kernel", &kernel].map(str::to_owned));
            command.extend(["-initrd", INITRD, "-append", CMDLINE].map(str::to_owned));
            if guest == Guest::Nvme {
                command.extend(["-device".to_owned(), format!("vfio-pci,host={NVME}")]);
            }
            let name = machine.split(',').next().unwrap_or(machine);
            all.push(named(&format!("QEMU {name}"), command));
        };
        if guest == Guest::Plain {
            with("microvm,accel=kvm");
        }
        with("q35,accel=kvm");
        all
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
