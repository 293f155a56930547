//! A host that says anything in /sys, /proc and debugfs: files and links, the input says which and what is in them.
//!
//! An input is a list of entries: which path, how long, what. A link's content is what it leads to.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use memory::pin::holders;
use memory::residency::cma::Sources;
use memory::residency::nodes::IdList;
use memory::residency::{Meminfo, Node, Zones};
use vfio::{Host, OpenNodes};

use crate::Input;

/// Entries of one input.
const MOST: usize = 48;
/// Paths that are files, and those that are links.
const FILES: [&str; 46] = [
    "sys/bus/pci/devices/0000:01:00.0/vendor",
    "sys/bus/pci/devices/0000:01:00.0/device",
    "sys/bus/pci/devices/0000:01:00.0/class",
    "sys/bus/pci/devices/0000:01:00.0/resource",
    "sys/bus/pci/devices/0000:01:00.0/numa_node",
    "sys/bus/pci/devices/0000:01:00.0/reset_method",
    "sys/bus/pci/devices/0000:01:00.0/sriov_numvfs",
    "sys/bus/pci/devices/0000:01:00.0/boot_vga",
    "sys/bus/pci/devices/0000:01:00.0/vfio-dev/vfio0",
    "sys/bus/pci/drivers/vfio-pci/new_id",
    "sys/kernel/iommu_groups/7/devices/0000:01:00.0",
    "sys/class/iommu/dmar0/intel-iommu/cap",
    "sys/class/net/eth0/upper_br0",
    "sys/class/block/nvme0n1/dev",
    "sys/class/block/nvme0n1/holders/dm-0",
    "sys/class/block/dm-0/dm/name",
    "sys/module/iommufd/parameters/allow_unsafe_interrupts",
    "sys/devices/system/node/node0/cpulist",
    "sys/devices/system/node/node1/cpulist",
    "sys/kernel/mm/cma/reserved/x",
    "sys/kernel/debug/cma/reserved/count",
    "sys/kernel/debug/cma/reserved/base_pfn",
    "sys/kernel/debug/cma/reserved/order_per_bit",
    "sys/kernel/debug/cma/reserved/ranges/0/base_pfn",
    "sys/kernel/debug/cma/reserved/ranges/0/bitmap",
    "sys/kernel/debug/cma/reserved/ranges/1/base_pfn",
    "sys/kernel/debug/cma/reserved/ranges/1/bitmap",
    "proc/device-tree/reserved-memory/#address-cells",
    "proc/device-tree/reserved-memory/#size-cells",
    "proc/device-tree/reserved-memory/pool/compatible",
    "proc/device-tree/reserved-memory/pool/reg",
    "proc/device-tree/reserved-memory/pool/reusable",
    "proc/device-tree/reserved-memory/pool/status",
    "proc/cmdline",
    "proc/interrupts",
    "proc/self/mountinfo",
    "proc/swaps",
    "proc/net/route",
    "proc/net/ipv6_route",
    "proc/meminfo",
    "proc/zoneinfo",
    "proc/145/maps",
    "proc/145/stat",
    "proc/145/comm",
    "proc/145/environ",
    "dev/kmsg",
];
const LINKS: [&str; 7] = [
    "sys/bus/pci/devices/0000:01:00.0/driver",
    "sys/bus/pci/devices/0000:01:00.0/iommu_group",
    "sys/class/net/eth0",
    "sys/class/net/br0/master",
    "sys/class/block/nvme0n1",
    "sys/class/block/sda",
    "proc/145/fd/3",
];

pub(super) fn run(bytes: &[u8]) {
    let root = tempfile::tempdir().unwrap();
    let mut input = Input::new(bytes);
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let (which, length) = (usize::from(input.byte()), usize::from(input.word()));
        let content = input.bytes(length);
        let which = which % (FILES.len() + LINKS.len());
        match FILES.get(which) {
            Some(path) => put(&root.path().join(path), content),
            None => link(&root.path().join(LINKS[which - FILES.len()]), content),
        }
    }
    look(root.path());
}

fn put(path: &Path, content: &[u8]) {
    // What is a link already, or below one, stays as it is.
    if path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok()) {
        let _ = fs::write(path, content);
    }
}

/// Links stay inside: whatever they lead to is below the root.
fn link(path: &Path, content: &[u8]) {
    let target = String::from_utf8_lossy(content);
    let inside = Path::new(&*target).components().filter(|part| matches!(part, Component::Normal(_)));
    let target: PathBuf = ["../devices"]
        .into_iter()
        .map(Path::new)
        .map(Path::to_owned)
        .chain(inside.map(|part| part.as_os_str().into()))
        .collect();
    if path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok()) {
        let _ = symlink(target, path);
    }
}

fn look(root: &Path) {
    let host = Host::at(root);
    let open = OpenNodes::scan(&host);
    for address in host.addresses().unwrap_or_default() {
        if let Ok(device) = host.find(address) {
            host.uses(&device, &open).iter().for_each(|used| drop(used.to_string()));
        }
    }
    let _ = host.survey();
    let text = |path| fs::read(root.join(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let sources = Sources {
        debugfs: root.join("sys/kernel/debug/cma"),
        kmsg: root.join("dev/kmsg"),
        device_tree: root.join("proc/device-tree"),
        cmdline: root.join("proc/cmdline"),
        sysfs: root.join("sys/kernel/mm/cma"),
    };
    let mut meminfo = Meminfo::parse(&text("proc/meminfo").unwrap_or_default());
    meminfo.cma_total = meminfo.cma_total.max(1);
    let _ = sources.discover(&meminfo);
    let zones = Zones::parse(&text("proc/zoneinfo").unwrap_or_default());
    let anywhere = IdList::parse("0-1023").unwrap();
    let _ = Node::allowed_in(&root.join("sys/devices/system/node"), &anywhere, &zones);
    let _ = holders::find_in(&root.join("proc"), 1, 4711, 1);
}
