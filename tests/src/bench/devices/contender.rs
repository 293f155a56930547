//! Who runs the guest: vmm, and QEMU's q35 as its own documentation sets it up for speed.

use serde::Serialize;

use super::load::Device;
use super::{IMAGE, INITRD, TAP};

const MEMORY: &str = "256M";
const CMDLINE: &str = "console=ttyS0 quiet";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Contender {
    Vmm,
    Qemu,
}

impl Contender {
    pub(super) const ALL: [Contender; 2] = [Contender::Vmm, Contender::Qemu];

    /// What runs a guest with the device in the lab host, on the kernel of this release in the host's /boot. `qemu` is how QEMU
    /// starts there.
    pub(super) fn command(self, device: Device, release: &str, qemu: &[String]) -> Vec<String> {
        let kernel = format!("/boot/vmlinuz-{release}");
        let (start, device) = match self {
            Contender::Vmm => (words("vmm run"), vmm(device)),
            Contender::Qemu => ([qemu, &words(QEMU)].concat(), self::qemu(device)),
        };
        let (memory, initrd, cmdline) = match self {
            Contender::Vmm => ("--memory", "--initrd", "--cmdline"),
            Contender::Qemu => ("-m", "-initrd", "-append"),
        };
        let kernel_option = if self == Contender::Vmm { "--kernel" } else { "-kernel" };
        let common = [memory, MEMORY, kernel_option, &kernel, initrd, INITRD, cmdline, CMDLINE];
        let common: Vec<String> = common.map(str::to_owned).into();
        [start, device, common].concat()
    }
}

const QEMU: &str = "-M q35,accel=kvm -cpu host -nodefaults -no-user-config -display none -no-reboot \
                    -chardev stdio,id=console,signal=off -serial chardev:console";

fn vmm(device: Device) -> Vec<String> {
    words(&match device {
        Device::Disk => format!("--disk {IMAGE},direct"),
        Device::VhostNet => format!("--net {TAP}"),
        Device::Net => format!("--net {TAP},vhost=off"),
    })
}

fn qemu(device: Device) -> Vec<String> {
    let net = |vhost| {
        format!(
            "-netdev tap,id=net,ifname={TAP},script=no,downscript=no,vhost={vhost} -device virtio-net-pci,netdev=net,romfile="
        )
    };
    words(&match device {
        Device::Disk => format!(
            "-object iothread,id=io -blockdev \
             driver=raw,node-name=disk,file.driver=file,file.filename={IMAGE},file.aio=io_uring,cache.direct=on,file.cache.direct=on \
             -device virtio-blk-pci,drive=disk,iothread=io"
        ),
        Device::VhostNet => net("on"),
        Device::Net => net("off"),
    })
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
