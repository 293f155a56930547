//! NVMe controllers and their namespaces as the guest's kernel shows them (`drivers/nvme/host/sysfs.c`).

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::pci::{self, Function};
use super::system::{System, names, text};

/// A namespace as a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    /// `nvme0n1`.
    pub(super) name: String,
    /// The PCI function it is reached through.
    pub(super) function: String,
    /// Its size in bytes, if the kernel tells.
    pub(super) bytes: Option<u64>,
}

/// What a summary would still have to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pending {
    /// A controller whose driver has not brought it up.
    Controller(String),
    /// A controller that is up and has shown no namespace yet. It may have none.
    Namespaces(String),
}

/// Disks of all NVMe controllers with the NVMe driver.
pub(super) fn disks(system: &System) -> Vec<Disk> {
    let functions = pci::functions(system);
    let driven = functions.iter().filter(|function| function.driver.as_deref() == Some("nvme"));
    driven.flat_map(|function| disks_of(system, function)).collect()
}

/// The first thing that is not there yet; `None` when waiting would bring no more disks.
pub(super) fn pending(system: &System) -> Option<Pending> {
    let driver_present = system.path("sys/bus/pci/drivers/nvme").is_dir();
    let functions = pci::functions(system);
    functions.iter().filter(|function| function.is_nvme()).find_map(|function| {
        let address = || function.address.clone();
        match function.driver.as_deref() {
            None => driver_present.then(|| Pending::Controller(address())),
            Some("nvme") => {
                let controllers = controllers(system, function);
                let states: Vec<_> = controllers.iter().filter_map(|dir| text(&dir.join("state"))).collect();
                if states.iter().any(|state| state.starts_with("delet") || state == "dead") {
                    None
                } else if states.iter().any(|state| state == "live") {
                    let disks = disks_of(system, function);
                    let shown = disks.iter().any(|disk| is_shown(&system.path("dev").join(&disk.name)));
                    (!shown).then(|| Pending::Namespaces(address()))
                } else {
                    Some(Pending::Controller(address()))
                }
            }
            Some(_) => None,
        }
    })
}

/// Whether a disk's node is there and leads to the disk: it does so a moment later only (`block/genhd.c`, `add_disk_fwnode`:
/// `device_add` comes before `bdev_add`). Any other error is one that a wait does not mend.
fn is_shown(node: &Path) -> bool {
    match File::open(node) {
        Ok(_) => true,
        Err(e) => e.kind() != ErrorKind::NotFound && e.raw_os_error() != Some(libc::ENXIO),
    }
}

fn controllers(system: &System, function: &Function) -> Vec<PathBuf> {
    let dir = system.path(pci::DEVICES).join(&function.address).join("nvme");
    names(&dir).into_iter().map(|name| dir.join(name)).collect()
}

fn disks_of(system: &System, function: &Function) -> Vec<Disk> {
    let controllers = controllers(system, function);
    let names = controllers.iter().flat_map(|dir| names(dir)).filter_map(|name| block_name(&name));
    let disk = |name: String| {
        let sectors = text(&system.path("sys/class/block").join(&name).join("size"));
        let bytes = sectors.and_then(|sectors| sectors.parse::<u64>().ok()?.checked_mul(512));
        Disk { name, function: function.address.clone(), bytes }
    };
    names.map(disk).collect()
}

/// The block device of a namespace or path in a controller's directory: `nvme0n1`, also of `nvme0c3n1`.
///
/// A controller of a subsystem with multipath shows `nvme<subsystem>c<controller>n<namespace>`, a hidden
/// device; the disk is then the head `nvme<subsystem>n<namespace>`.
fn block_name(entry: &str) -> Option<String> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (instance, namespace) = entry.strip_prefix("nvme")?.split_once('n')?;
    let (subsystem, path) = instance.split_once('c').unwrap_or((instance, "0"));
    (number(subsystem) && number(path) && number(namespace)).then(|| format!("nvme{subsystem}n{namespace}"))
}

#[cfg(test)]
#[path = "nvme_test.rs"]
mod tests;
