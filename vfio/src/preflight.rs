//! Everything that can be known to be wrong before a device is opened, found at once and named.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use devices::pci::PciAddress;

use crate::sysfs::{DiscoverError, Host, HostDevice, Member};

/// Why a device cannot be passed through.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PreflightError {
    /// Absent, or sysfs cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Discover(#[from] DiscoverError),

    /// Asked for more than once.
    #[error("{0} is given twice")]
    #[diagnostic(help("name each device once"))]
    Duplicate(PciAddress),

    /// A PCI-to-PCI bridge.
    #[error("{0} is a PCI bridge, which cannot be passed through")]
    #[diagnostic(help("name the devices behind it"))]
    Bridge(PciAddress),

    /// A host driver drives it.
    #[error("{address} is bound to the host driver {driver}")]
    #[diagnostic(help("give it to VFIO (the host loses it until it is given back):\n{commands}"))]
    HostDriver {
        /// The device.
        address: PciAddress,
        /// Its driver.
        driver: String,
        /// What rebinds it.
        commands: String,
    },

    /// No driver at all.
    #[error("{address} is bound to no driver, and has to be bound to vfio-pci")]
    #[diagnostic(help("bind it:\n{commands}"))]
    NoDriver {
        /// The device.
        address: PciAddress,
        /// What binds it.
        commands: String,
    },

    /// The host runs without IOMMU.
    #[error("{0} has no IOMMU group: the IOMMU is off")]
    #[diagnostic(help(
        "turn VT-d or AMD-Vi on in the firmware, and boot the host with intel_iommu=on (Intel) or without amd_iommu=off (AMD)"
    ))]
    IommuOff(PciAddress),

    /// The host has an IOMMU, but not for this device.
    #[error("{0} has no IOMMU group: no IOMMU is in charge of it")]
    #[diagnostic(help(
        "use a device behind an IOMMU; `dmesg | grep -i iommu` tells which units the kernel found"
    ))]
    NoGroup(PciAddress),

    /// Others in its group are in use by the host.
    #[error("{address} shares IOMMU group {group} with devices that the host uses: {}", list(members))]
    #[diagnostic(help(
        "the IOMMU cannot tell them apart: bind them to vfio-pci too (they need not be passed through), or use another slot"
    ))]
    GroupShared {
        /// The device.
        address: PciAddress,
        /// The group.
        group: u32,
        /// The devices in the way.
        members: Vec<Member>,
    },

    /// VFIO is not loaded.
    #[error("{} does not exist: VFIO is not loaded", .0.display())]
    #[diagnostic(help("modprobe vfio-pci"))]
    NoVfio(PathBuf),

    /// The group has no device node.
    #[error("{} does not exist, though {address} is bound to VFIO", path.display())]
    #[diagnostic(help("in a container, pass the node in; else check that udev or devtmpfs fills /dev/vfio"))]
    NoGroupNode {
        /// The group's node.
        path: PathBuf,
        /// The device.
        address: PciAddress,
    },

    /// The node may not be opened.
    #[error("no permission to open {}, which belongs to {owner}", path.display())]
    #[diagnostic(help("run as its owner, or give the node away: chown USER {}", path.display()))]
    NoAccess {
        /// The node.
        path: PathBuf,
        /// Its owner and mode.
        owner: String,
    },

    /// Somebody else has the group open.
    #[error("{} is in use by {holders}", path.display())]
    #[diagnostic(help("a group can be open once: stop the other user, or use another device"))]
    Busy {
        /// The node.
        path: PathBuf,
        /// Who.
        holders: String,
    },

    /// The node cannot be opened for another reason.
    #[error("cannot open {}", path.display())]
    Open {
        /// The node.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Looks at every device of the running host, and reports all that is wrong at once. Nothing stays open.
pub fn check(addresses: &[PciAddress]) -> Result<Vec<HostDevice>, Vec<PreflightError>> {
    check_on(&Host::default(), addresses)
}

/// As [`check`], on a given host.
pub fn check_on(host: &Host, addresses: &[PciAddress]) -> Result<Vec<HostDevice>, Vec<PreflightError>> {
    let mut errors = Vec::new();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for address in addresses {
        if !seen.insert(*address) {
            errors.push(PreflightError::Duplicate(*address));
            continue;
        }
        match host.find(*address) {
            Ok(device) => found.push(device),
            Err(error) => errors.push(error.into()),
        }
    }
    let mut groups = BTreeSet::new();
    for device in &found {
        check_driver(host, device, &mut errors);
        check_group(host, device, &seen, &mut groups, &mut errors);
    }
    if !addresses.is_empty() {
        let path = host.dev.join("vfio/vfio");
        if let Err(error) = try_open(&path) {
            errors.push(match error.kind() {
                io::ErrorKind::NotFound => PreflightError::NoVfio(path),
                _ => explain(host, path, error),
            });
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

fn check_driver(host: &Host, device: &HostDevice, errors: &mut Vec<PreflightError>) {
    let address = device.address;
    if device.is_bridge() {
        errors.push(PreflightError::Bridge(address));
    } else if !device.is_bound_to_vfio() {
        let load = if host.has_vfio_pci() { "" } else { "  modprobe vfio-pci\n" };
        let take = format!("  echo vfio-pci > /sys/bus/pci/devices/{address}/driver_override\n");
        let probe = format!("  echo {address} > /sys/bus/pci/drivers_probe");
        errors.push(match &device.driver {
            Some(driver) => {
                let release = format!("  echo {address} > /sys/bus/pci/devices/{address}/driver/unbind\n");
                let commands = [load, &take, &release, &probe].concat();
                PreflightError::HostDriver { address, driver: driver.clone(), commands }
            }
            None => PreflightError::NoDriver { address, commands: [load, &take, &probe].concat() },
        });
    }
}

fn check_group(
    host: &Host,
    device: &HostDevice,
    asked_for: &BTreeSet<PciAddress>,
    groups: &mut BTreeSet<u32>,
    errors: &mut Vec<PreflightError>,
) {
    let address = device.address;
    let Some(group) = &device.group else {
        let off = !host.has_iommu();
        errors.push(if off { PreflightError::IommuOff(address) } else { PreflightError::NoGroup(address) });
        return;
    };
    if !groups.insert(group.id) {
        return;
    }
    // What was asked for itself has its own error.
    let in_the_way = |member: &&Member| member.is_obstacle() && !asked_for.contains(&member.address);
    let members: Vec<Member> = group.members.iter().filter(in_the_way).cloned().collect();
    let shared = !members.is_empty();
    if shared {
        errors.push(PreflightError::GroupShared { address, group: group.id, members });
    }
    // Without a VFIO driver there is no node yet, and nothing to say about it.
    if !device.is_bound_to_vfio() {
        return;
    }
    let path = host.dev.join("vfio").join(group.id.to_string());
    match try_open(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            errors.push(PreflightError::NoGroupNode { path, address });
        }
        Err(error) => errors.push(explain(host, path, error)),
    }
}

fn try_open(path: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open(path).map(drop)
}

fn explain(host: &Host, path: PathBuf, error: io::Error) -> PreflightError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let owner = match fs::metadata(&path) {
                Ok(meta) => {
                    format!("uid {}, gid {} (mode {:04o})", meta.uid(), meta.gid(), meta.mode() & 0o7777)
                }
                Err(_) => "an unknown owner".into(),
            };
            PreflightError::NoAccess { path, owner }
        }
        io::ErrorKind::ResourceBusy => {
            let holders = holders(host, &path);
            PreflightError::Busy { path, holders }
        }
        _ => PreflightError::Open { path, source: error },
    }
}

/// Which processes have `path` open, as far as /proc lets us see.
fn holders(host: &Host, path: &Path) -> String {
    let mut names = Vec::new();
    for process in fs::read_dir(&host.proc).into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let open = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path));
        if open {
            let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            names.push(format!("{} (pid {pid})", comm.trim()));
        }
    }
    if names.is_empty() { "another process".into() } else { names.join(", ") }
}

fn list(members: &[Member]) -> String {
    let name =
        |member: &Member| format!("{} ({})", member.address, member.driver.as_deref().unwrap_or("no driver"));
    members.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "preflight_test.rs"]
mod tests;
