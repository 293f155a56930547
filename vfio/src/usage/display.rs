//! Whether a function drives the display that the console is on (Documentation/ABI/testing/sysfs-bus-pci, `boot_vga`),
//! and who draws on it (/sys/class/drm).

use std::fs;

use super::{Use, opened};
use crate::holders::OpenNodes;
use crate::sysfs::{Host, HostDevice, entries, has_component};
use crate::text;

/// Base class of display controllers.
const DISPLAY: u32 = 0x03;

pub(super) fn uses(host: &Host, device: &HostDevice, open: &OpenNodes) -> Vec<Use> {
    if device.class >> 16 != DISPLAY {
        return Vec::new();
    }
    let mut uses = Vec::new();
    if has_console(host, device) && !device.is_bound_to_vfio() && !has_other_display(host, device) {
        uses.push(Use::Console);
    }
    let class = host.sys.join("class/drm");
    for name in entries(&class) {
        if fs::read_link(class.join(&name)).is_ok_and(|link| has_component(&link, device.address)) {
            uses.extend(opened(host, &host.dev.join("dri").join(name), open));
        }
    }
    // Its driver hangs for as long as a node is open when the device is taken away.
    let information = host.proc.join(format!("driver/nvidia/gpus/{}/information", device.address));
    let information = text::read_or_empty(&information);
    let minor = information.lines().find_map(|line| line.strip_prefix("Device Minor:"));
    if let Some(minor) = minor.and_then(|minor| minor.trim().parse::<u32>().ok()) {
        uses.extend(opened(host, &host.dev.join(format!("nvidia{minor}")), open));
    }
    uses
}

/// Whether the firmware showed the start of the host on it, as the kernel goes on to.
fn has_console(host: &Host, device: &HostDevice) -> bool {
    text::read_or_empty(&host.device_path(device.address).join("boot_vga")).trim() == "1"
}

/// Whether there is another display controller with a driver that the host can show something with.
fn has_other_display(host: &Host, device: &HostDevice) -> bool {
    let others = host.addresses().unwrap_or_default().into_iter().filter(|other| *other != device.address);
    others.filter_map(|other| host.find(other).ok()).any(|other| {
        let is_vga = host.device_path(other.address).join("boot_vga").exists();
        is_vga && other.driver.is_some() && !other.is_bound_to_vfio()
    })
}
