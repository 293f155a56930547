//! Block devices of a PCI function, and what they are used for (Documentation/ABI/stable/sysfs-block, proc(5)).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use devices::pci::PciAddress;

use super::{Use, opened};
use crate::holders::OpenNodes;
use crate::sysfs::{Host, entries, has_component, link_name};
use crate::text;

/// A disk or a partition.
struct BlockDevice {
    /// As in /sys/class/block.
    name: String,
    /// `259:0`
    number: String,
}

pub(super) fn uses(host: &Host, address: PciAddress, open: &OpenNodes) -> Vec<Use> {
    let devices = block_devices(host, address);
    if devices.is_empty() {
        return Vec::new();
    }
    let mounts = text::read_or_empty(&host.proc.join("self/mountinfo"));
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    let swaps = text::read_or_empty(&host.proc.join("swaps"));
    let swaps: Vec<String> =
        swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(text::unescape).collect();

    let mut uses = Vec::new();
    for device in devices {
        let name = || device.name.clone();
        let node = format!("/dev/{}", device.name.replace('!', "/"));
        let holds = |mount: &&Mount| mount.number == device.number || mount.source == node;
        let mounted: Vec<&Mount> = mounts.iter().filter(holds).collect();
        uses.extend(mounted.iter().map(|mount| Use::Mounted { device: name(), on: mount.on.clone() }));
        if swaps.contains(&node) {
            uses.push(Use::Swap { device: name() });
        }
        let holders = entries(&host.sys.join("class/block").join(&device.name).join("holders"));
        uses.extend(holders.iter().map(|holder| Use::PartOf { device: name(), whole: whole(host, holder) }));
        if mounted.is_empty() && is_in_btrfs(host, &device.name) {
            uses.push(Use::PartOf { device: name(), whole: "a mounted btrfs".to_owned() });
        }
        uses.extend(opened(host, &node_path(host, &device.name), open));
    }
    uses
}

/// Block devices that the kernel has for itself, whatever for: ZFS and bcache, and mounts that this mount namespace
/// does not show. Found by asking for them exclusively for an instant, which a mount at that very moment would notice;
/// hence only when it matters.
pub(crate) fn claimed(host: &Host, address: PciAddress) -> Vec<Use> {
    let is_claimed = |device: &BlockDevice| {
        let exclusive = libc::O_EXCL | libc::O_NONBLOCK;
        let opened =
            OpenOptions::new().read(true).custom_flags(exclusive).open(node_path(host, &device.name));
        opened.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
    };
    let devices = block_devices(host, address).into_iter();
    devices.filter(is_claimed).map(|device| Use::Claimed { device: device.name }).collect()
}

fn node_path(host: &Host, name: &str) -> PathBuf {
    host.dev.join(name.replace('!', "/"))
}

fn block_devices(host: &Host, address: PciAddress) -> Vec<BlockDevice> {
    let class = host.sys.join("class/block");
    let mut devices = Vec::new();
    for name in entries(&class) {
        let Ok(link) = fs::read_link(class.join(&name)) else { continue };
        if has_component(&link, address) || is_path_to(host, &link, address) {
            let number = text::read_or_empty(&class.join(&name).join("dev")).trim().to_owned();
            devices.push(BlockDevice { name, number });
        }
    }
    devices
}

/// Whether a block device that several NVMe controllers can lead to, and that therefore belongs to none, is reached
/// through the one at `address`: `../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1`.
fn is_path_to(host: &Host, link: &Path, address: PciAddress) -> bool {
    let components = link.iter().filter_map(|component| component.to_str());
    let subsystem = components.skip_while(|component| *component != "nvme-subsystem").nth(1);
    let Some(subsystem) = subsystem else { return false };
    let directory = host.sys.join("devices/virtual/nvme-subsystem").join(subsystem);
    let leads = |name: &String| {
        fs::read_link(directory.join(name)).is_ok_and(|controller| has_component(&controller, address))
    };
    entries(&directory).iter().any(leads)
}

/// `dm-0 (vg-root)`, `md0`.
fn whole(host: &Host, holder: &str) -> String {
    let name = text::read_or_empty(&host.sys.join("class/block").join(holder).join("dm/name"));
    match name.trim() {
        "" => holder.to_owned(),
        name => format!("{holder} ({name})"),
    }
}

/// A btrfs of several devices shows one of them in the list of mounts. In sysfs it is for as long as it is mounted.
fn is_in_btrfs(host: &Host, name: &str) -> bool {
    let file_systems = host.sys.join("fs/btrfs");
    let has = |uuid: &String| link_name(&file_systems.join(uuid).join("devices").join(name)).is_some();
    entries(&file_systems).iter().any(has)
}

/// A line of `/proc/self/mountinfo`.
struct Mount {
    number: String,
    on: String,
    source: String,
}

impl Mount {
    /// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/sda1 rw`
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(2);
        let number = fields.next()?.to_owned();
        let on = text::unescape(fields.nth(1)?);
        let source = text::unescape(file_system.split(' ').nth(1)?);
        Some(Self { number, on, source })
    }
}
