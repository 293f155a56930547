//! Who runs the guest: vmm, and QEMU's q35 as its own documentation sets it up for speed.

use serde::Serialize;

use super::IMAGES;
use super::load::Device;

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

    /// Of its disk, in the lab host.
    pub(super) fn image(self) -> String {
        format!("{IMAGES}/{self:?}.img")
    }

    /// Of its card.
    pub(super) fn tap(self) -> &'static str {
        match self {
            Contender::Vmm => "tap0",
            Contender::Qemu => "tap1",
        }
    }

    /// Between its guest and the lab host: the first three numbers of its addresses.
    pub(super) fn network(self) -> &'static str {
        match self {
            Contender::Vmm => "10.9.0",
            Contender::Qemu => "10.9.1",
        }
    }

    /// The lab host's address there.
    pub(super) fn host(self) -> String {
        format!("{}.1", self.network())
    }

    /// What its guest boots from, in the lab host.
    pub(super) fn initrd(self) -> String {
        format!("/lab/{self:?}.cpio")
    }

    /// What runs a guest with the device in the lab host, on the kernel of this release in the host's /boot. `qemu` is how QEMU
    /// starts there.
    pub(super) fn command(self, device: Device, release: &str, qemu: &[String]) -> Vec<String> {
        let kernel = format!("/boot/vmlinuz-{release}");
        let (start, device) = match self {
            Contender::Vmm => (words("vmm run"), self.vmm(device)),
            Contender::Qemu => ([qemu, &words(QEMU)].concat(), self.qemu(device)),
        };
        let (memory, initrd, cmdline) = match self {
            Contender::Vmm => ("--memory", "--initrd", "--cmdline"),
            Contender::Qemu => ("-m", "-initrd", "-append"),
        };
        let kernel_option = if self == Contender::Vmm { "--kernel" } else { "-kernel" };
        let common = [memory, MEMORY, kernel_option, &kernel, initrd, &self.initrd(), cmdline, CMDLINE];
        let common: Vec<String> = common.map(str::to_owned).into();
        [start, device, common].concat()
    }

    fn vmm(self, device: Device) -> Vec<String> {
        let (image, tap) = (self.image(), self.tap());
        words(&match device {
            Device::Disk => format!("--disk {image},direct"),
            Device::VhostNet => format!("--net {tap}"),
            Device::Net => format!("--net {tap},vhost=off"),
        })
    }

    fn qemu(self, device: Device) -> Vec<String> {
        let (image, tap) = (self.image(), self.tap());
        let net = |vhost| {
            format!(
                "-netdev tap,id=net,ifname={tap},script=no,downscript=no,vhost={vhost} -device virtio-net-pci,netdev=net,romfile="
            )
        };
        words(&match device {
            Device::Disk => format!(
                "-object iothread,id=io -blockdev \
                 driver=raw,node-name=disk,file.driver=file,file.filename={image},file.aio=io_uring,cache.direct=on,file.cache.direct=on \
                 -device virtio-blk-pci,drive=disk,iothread=io"
            ),
            Device::VhostNet => net("on"),
            Device::Net => net("off"),
        })
    }
}

const QEMU: &str = "-M q35,accel=kvm -cpu host -nodefaults -no-user-config -display none -no-reboot \
                    -chardev stdio,id=console,signal=off -serial chardev:console";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
