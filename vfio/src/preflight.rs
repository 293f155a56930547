//! Everything that can be known to be wrong before a device is opened, found at once and named.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use devices::pci::PciAddress;
use tracing::debug;

use crate::dma::Backend;
use crate::nodes;
use crate::request::{DeviceRequest, Request, RequestError};
use crate::sysfs::{DiscoverError, Host, HostDevice, Member};

/// Why a device cannot be passed through.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PreflightError {
    /// Absent, or sysfs cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Discover(#[from] DiscoverError),

    /// Wishes that contradict each other.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Request(#[from] RequestError),

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
    #[diagnostic(help("give it to VFIO; the host loses it until `vmm unbind {address}`:\n{commands}"))]
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
        "the IOMMU cannot tell them apart: bind them too (they need not be passed through), or use another slot:\n  \
         vmm bind --group {address}"
    ))]
    GroupShared {
        /// The device.
        address: PciAddress,
        /// The group.
        group: u32,
        /// The devices in the way.
        members: Vec<Member>,
    },

    /// Half of a group.
    #[error("{confined} is to be confined, {free} is not, and both are in IOMMU group {group}")]
    #[diagnostic(help("the IOMMU cannot tell them apart: give both `iommu`, or none"))]
    HalfConfined {
        /// One that is to be confined.
        confined: PciAddress,
        /// One that is not.
        free: PciAddress,
        /// Their group.
        group: u32,
    },

    /// Its configuration space reads as all ones.
    #[error("{0} does not answer")]
    #[diagnostic(help(
        "it is powered off, has failed or was pulled out: see `dmesg`, and power the host off and on"
    ))]
    Silent(PciAddress),

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

    /// No iommufd at all.
    #[error("{} does not exist: the kernel has no iommufd", .0.display())]
    #[diagnostic(help("modprobe iommufd (Linux 6.6 and later), or leave `backend=iommufd` out"))]
    NoIommufd(PathBuf),

    /// VFIO gives the device no node of its own.
    #[error("{0} has no node in /dev/vfio/devices: this kernel's VFIO reaches it through its group only")]
    #[diagnostic(help(
        "leave `backend=iommufd` out; or use a kernel with VFIO_DEVICE_CDEV (Linux 6.6 and later)"
    ))]
    NoCdev(PciAddress),

    /// The device's own node is missing.
    #[error("{} does not exist, though {address} is bound to VFIO", path.display())]
    #[diagnostic(help("in a container, pass the node in; else check that udev or devtmpfs fills /dev/vfio"))]
    NoCdevNode {
        /// The device's node.
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

    /// Somebody else has the group, or a device of it, open.
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

/// Devices that can be opened, as far as can be known.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) devices: Vec<Candidate>,
    pub(crate) backend: Backend,
    /// Whether a container could serve as well, and nobody minds.
    pub(crate) has_alternative: bool,
    pub(crate) iommufd: Option<Arc<File>>,
}

/// A device that was found.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) host: HostDevice,
    /// Its cdev, if it was handed over.
    pub(crate) opened: Option<Arc<File>>,
    /// Whether the machine has its group open.
    pub(crate) held: bool,
    /// Whether the guest says what it reaches.
    pub(crate) confined: bool,
}

impl Prepared {
    /// The devices, in the order in which they were asked for.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = &HostDevice> {
        self.devices.iter().map(|candidate| &candidate.host)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Those that share an address space, and those that the guest confines: one of these for each IOMMU group, which the IOMMU can
    /// tell apart from others.
    pub fn split(self) -> (Self, Vec<Self>) {
        let Self { devices, backend, has_alternative, iommufd } = self;
        let with = |devices| Self { devices, backend, has_alternative, iommufd: iommufd.clone() };
        let (mut shared, mut groups) = (Vec::new(), Vec::<Vec<Candidate>>::new());
        for candidate in devices {
            let id = |candidate: &Candidate| candidate.host.group.as_ref().map(|group| group.id);
            let of_group = |devices: &&mut Vec<Candidate>| devices.iter().any(|it| id(it) == id(&candidate));
            match groups.iter_mut().find(of_group) {
                _ if !candidate.confined => shared.push(candidate),
                Some(devices) => devices.push(candidate),
                None => groups.push(vec![candidate]),
            }
        }
        let confined = groups.into_iter().map(with).collect();
        (with(shared), confined)
    }
}

/// Looks at every device of the running host, and reports all that is wrong at once. Opens nothing for good.
pub fn check(request: Request) -> Result<Prepared, Vec<PreflightError>> {
    check_on(&Host::default(), request)
}

/// As [`check`], on a given host.
pub fn check_on(host: &Host, request: Request) -> Result<Prepared, Vec<PreflightError>> {
    let mut errors = Vec::new();
    let backend = request.backend().unwrap_or_else(|error| {
        errors.push(error.into());
        None
    });
    let Request { devices: requests, iommufd, company } = request;
    let held = company.map(|company| company.groups).unwrap_or_default();
    let mut devices = Vec::new();
    let mut seen = BTreeSet::new();
    for DeviceRequest { address, opened, confined, .. } in requests {
        if !seen.insert(address) {
            errors.push(PreflightError::Duplicate(address));
            continue;
        }
        match host.find(address) {
            Ok(host) => {
                let held = host.group.as_ref().is_some_and(|group| held.contains(&group.id));
                devices.push(Candidate { host, opened, held, confined });
            }
            Err(error) => errors.push(error.into()),
        }
    }
    let mut groups = BTreeSet::new();
    for Candidate { host: device, .. } in &devices {
        errors.extend(standing_obstacles(host, device, &seen, &mut groups));
    }
    errors.extend(half_confined(&devices));
    let (backend, has_alternative) = if seen.is_empty() {
        (Backend::Container, false)
    } else {
        choose(host, &devices, backend, iommufd.is_some()).unwrap_or_else(|obstacles| {
            errors.extend(obstacles);
            (Backend::Container, false)
        })
    };
    let prepared = Prepared { devices, backend, has_alternative, iommufd };
    if errors.is_empty() { Ok(prepared) } else { Err(errors) }
}

/// Groups of which some devices are to be confined and some are not.
fn half_confined(devices: &[Candidate]) -> Vec<PreflightError> {
    let mut groups = BTreeSet::new();
    let group = |candidate: &Candidate| candidate.host.group.as_ref().map(|group| group.id);
    let half = |confined: &Candidate| {
        let id = group(confined).filter(|_| confined.confined)?;
        let free = devices.iter().find(|other| !other.confined && group(other) == Some(id))?;
        let (confined, free) = (confined.host.address, free.host.address);
        groups.insert(id).then_some(PreflightError::HalfConfined { confined, free, group: id })
    };
    devices.iter().filter_map(half).collect()
}

/// The interface to use, and whether a container could serve as well; or what is in the way.
fn choose(
    host: &Host,
    devices: &[Candidate],
    wish: Option<Backend>,
    handed: bool,
) -> Result<(Backend, bool), Vec<PreflightError>> {
    let free = |obstacles: Vec<_>| if obstacles.is_empty() { Ok(()) } else { Err(obstacles) };
    let container = || free(nodes::container_obstacles(host, devices));
    let iommufd = || free(nodes::iommufd_obstacles(host, devices, handed));
    match wish {
        Some(Backend::Iommufd) => iommufd().map(|()| (Backend::Iommufd, false)),
        Some(Backend::Container) => container().map(|()| (Backend::Container, false)),
        None if nodes::offers_iommufd(host, devices) => match (iommufd(), container()) {
            (Ok(()), container) => Ok((Backend::Iommufd, container.is_ok())),
            (Err(obstacles), Ok(())) => {
                debug!(?obstacles, "iommufd cannot be used");
                Ok((Backend::Container, false))
            }
            (Err(obstacles), Err(_)) => Err(obstacles),
        },
        None => container().map(|()| (Backend::Container, false)),
    }
}

/// What is in the way of a device whoever asks for it, and whatever else is open. `asked_for` is all that is wanted
/// together, `groups` which IOMMU groups have been looked at.
pub(crate) fn standing_obstacles(
    host: &Host,
    device: &HostDevice,
    asked_for: &BTreeSet<PciAddress>,
    groups: &mut BTreeSet<u32>,
) -> Vec<PreflightError> {
    let mut errors = Vec::new();
    if !host.answers(device) {
        errors.push(PreflightError::Silent(device.address));
    }
    check_driver(host, device, &mut errors);
    check_group(host, device, asked_for, groups, &mut errors);
    errors
}

fn check_driver(host: &Host, device: &HostDevice, errors: &mut Vec<PreflightError>) {
    let address = device.address;
    if device.is_bridge() {
        errors.push(PreflightError::Bridge(address));
    } else if !device.is_bound_to_vfio() {
        let load = if host.has_vfio_pci() { "" } else { "  modprobe vfio-pci\n" };
        let commands = format!("{load}  vmm bind {address}");
        errors.push(match &device.driver {
            Some(driver) => PreflightError::HostDriver { address, driver: driver.clone(), commands },
            None => PreflightError::NoDriver { address, commands },
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
    if !members.is_empty() {
        errors.push(PreflightError::GroupShared { address, group: group.id, members });
    }
}

fn list(members: &[Member]) -> String {
    let name =
        |member: &Member| format!("{} ({})", member.address, member.driver.as_deref().unwrap_or("no driver"));
    members.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "preflight_test.rs"]
mod tests;
