//! What is measured.

use super::INITRD;
use crate::host::NVME;

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

    /// What runs it in the lab host, on the kernel of this release in the host's /boot.
    pub(super) fn command(self, release: &str) -> Vec<String> {
        let kernel = format!("/boot/vmlinuz-{release}");
        let mut command = words("vmm run --memory");
        command.extend(
            [MEMORY, "--kernel", &kernel, "--initrd", INITRD, "--cmdline", CMDLINE].map(str::to_owned),
        );
        if self == Guest::Nvme {
            command.extend(["--vfio", NVME].map(str::to_owned));
        }
        command
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
