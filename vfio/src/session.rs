//! All passed-through devices of one machine, from before its RAM exists until after it is gone.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::irq::InterruptController;
use devices::pci::PciAddress;
use kvm_ioctls::DeviceFd;
use miette::Diagnostic;
use tracing::{info, warn};
use vfio_ioctls::VfioError;

use crate::container::Container;
use crate::device::{Device, Handle};
use crate::dma::{Backend, DmaSpace};
use crate::function::PassthroughFunction;
use crate::holders::OpenNodes;
use crate::info::Aperture;
use crate::ioas::Ioas;
use crate::preflight::{Candidate, Prepared};
use crate::release::{RELEASE, when_released};
use crate::request::Company;
use crate::reset::{self, Aftermath, BusResetError, BusResets};
use crate::sys;
use crate::sysfs::{Host, HostDevice};

/// Why devices could not be opened. What [`crate::preflight`] finds mostly does not get this far.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The container could not be opened.
    #[error("cannot open /dev/vfio/vfio")]
    Container(#[source] io::Error),
    /// The kernel's VFIO is another one.
    #[error("the kernel's VFIO has no type 1 IOMMU driver")]
    Unsupported(#[source] VfioError),
    /// The iommufd could not be opened.
    #[error("cannot open /dev/iommu")]
    Iommufd(#[source] io::Error),
    /// The device has no IOMMU group.
    #[error("{0} has no IOMMU group")]
    NoGroup(PciAddress),
    /// The node of a device or of its group could not be opened.
    #[error("cannot open {} for {address}", path.display())]
    Node {
        /// The node.
        path: PathBuf,
        /// The device.
        address: PciAddress,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A device in the group is in the hands of a host driver.
    #[error("IOMMU group {group} of {address} holds devices that the host uses")]
    NotViable {
        /// The group.
        group: u32,
        /// A device in it.
        address: PciAddress,
    },
    /// A group could not be put into the container.
    #[error("{call} failed for IOMMU group {group} of {address}")]
    Attach {
        /// The group.
        group: u32,
        /// A device in it.
        address: PciAddress,
        /// What failed.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The IOMMU could not be asked.
    #[error("{call} failed")]
    Iommu {
        /// What failed.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A device could not be opened.
    #[error("{call} failed for {address}")]
    Device {
        /// The device.
        address: PciAddress,
        /// What failed.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody else has the device open.
    #[error("{address} is in use by {holders}")]
    InUse {
        /// The device.
        address: PciAddress,
        /// Who.
        holders: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// VFIO says it is no PCI device.
    #[error("{0} is not a PCI device to VFIO")]
    NotPci(PciAddress),
    /// VFIO does not show its configuration space.
    #[error("VFIO does not give access to the configuration space of {0}")]
    NoConfig(PciAddress),
    /// Its configuration space reads as all ones.
    #[error("{0} does not answer")]
    Silent(PciAddress),
}

/// How a cdev is opened.
const BIND: &str = "VFIO_DEVICE_BIND_IOMMUFD";

impl Diagnostic for OpenError {
    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        let text = match self {
            Self::Container(_) | Self::Unsupported(_) => "modprobe vfio-pci vfio_iommu_type1",
            Self::Iommufd(_) => "modprobe iommufd, or leave `backend=iommufd` out",
            Self::NoGroup(_) => {
                "turn VT-d or AMD-Vi on in the firmware, and boot the host with intel_iommu=on (Intel) or without \
                 amd_iommu=off (AMD)"
            }
            Self::Node { source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
                "a group can be open once: stop the other user, or use another device"
            }
            Self::InUse { .. } => "a device can be open once: stop the other user, or use another device",
            Self::NotViable { .. } => {
                "bind every device of the group to vfio-pci; bridges may stay as they are"
            }
            Self::Attach { source, .. } if source.raw_os_error() == Some(libc::EPERM) => {
                "the IOMMU does not remap interrupts: turn that on in the firmware; if every guest is trusted, \
                 echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
            }
            Self::Attach { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
                "its IOMMU differs from that of the other devices: pass them to different machines"
            }
            Self::Device { call: BIND, source, .. } if source.raw_os_error() == Some(libc::EPERM) => {
                "the IOMMU does not remap interrupts: turn that on in the firmware; if every guest is trusted, \
                 echo 1 > /sys/module/iommufd/parameters/allow_unsafe_interrupts"
            }
            Self::Device { call: BIND, source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
                "another process has it open (fuser -v /dev/vfio/devices/* tells which), or its IOMMU does not keep DMA \
                 coherent with the CPU's caches, which backend=container puts up with"
            }
            Self::Device { call: BIND, source, .. } if source.raw_os_error() == Some(libc::EBUSY) => {
                "another process has its IOMMU group open: fuser -v /dev/vfio/* /dev/vfio/devices/* tells which"
            }
            Self::Device { source, .. } if source.raw_os_error() == Some(libc::EAGAIN) => {
                "the device is being reset by somebody else: try again"
            }
            Self::Silent(_) => {
                "it is powered off, has failed or was pulled out: see `dmesg`, and power the host off and on"
            }
            Self::Device { .. } => "`dmesg | grep vfio` tells what the host's driver made of it",
            Self::Node { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as root, or have the node given to this user"
            }
            Self::Node { .. } => "bind the device to vfio-pci: the node exists only then",
            Self::Attach { .. } | Self::Iommu { .. } => {
                "`dmesg | grep -iE 'vfio|iommu'` tells what the host made of it"
            }
            Self::NotPci(_) | Self::NoConfig(_) => {
                "only PCI functions bound to vfio-pci, or to a driver made for it, can be passed through"
            }
        };
        Some(Box::new(text))
    }
}

/// A device that could not be reset.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("cannot reset {address}")]
#[diagnostic(help(
    "the guest finds the device as it left it; starting the machine anew opens, and so resets, it again"
))]
pub struct ResetError {
    /// Its address on the host.
    pub address: PciAddress,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// The opened devices of one machine and the IOMMU address space they share.
///
/// Outlives guest reboots. Dropping it and the functions made from it closes the devices (which resets them), removes
/// all DMA maps and detaches the devices or their groups.
pub struct Passthrough {
    devices: Vec<Opened>,
    bus_resets: BusResets,
    space: Arc<DmaSpace>,
    // When all of the above is closed.
    aftermath: Aftermath,
}

/// An open device.
struct Opened {
    device: Arc<Device>,
    group: Option<u32>,
}

impl Passthrough {
    /// Opens the devices (from [`crate::preflight::check`]) in one address space. `kvm_vfio` is the machine's
    /// `KVM_DEV_TYPE_VFIO` device; each device or group is added to it before it is opened. Undone completely when
    /// anything fails.
    pub fn open(prepared: Prepared, kvm_vfio: Option<Arc<DeviceFd>>) -> Result<Self, OpenError> {
        let opened = match prepared.backend {
            Backend::Iommufd => open_iommufd(&prepared, kvm_vfio.clone())?,
            Backend::Container => None,
        };
        let (handles, space) = match opened {
            Some(opened) => opened,
            None => open_container(&prepared, kvm_vfio)?,
        };
        info!(backend = %space.backend(), devices = handles.len(), "devices opened");
        let mut passthrough = Self {
            devices: Vec::new(),
            bus_resets: BusResets::default(),
            space: Arc::new(space),
            aftermath: Aftermath::default(),
        };
        for (candidate, handle) in prepared.devices.iter().zip(handles) {
            passthrough.take(&candidate.host, handle)?;
        }
        passthrough.bus_resets.add(&passthrough.handles(0), &[]);
        Ok(passthrough)
    }

    /// For a guest reboot, when all functions have been reset ([`PassthroughFunction::reset`]): resets those devices
    /// which that could do nothing for, and returns what was not reset, and what did not come back.
    pub fn reset_buses(&self) -> Vec<BusResetError> {
        let mut errors = self.bus_resets.again();
        errors.extend(reset::silent(&self.handles(0)));
        errors
    }

    /// What devices that come later have to share: for [`crate::Request::join`].
    pub fn company(&self) -> Company {
        let groups = self.devices.iter().filter_map(|opened| opened.group).collect();
        Company { backend: self.space.backend(), groups }
    }

    /// Opens more devices in the same address space. Undone completely when anything fails.
    pub fn add(&mut self, prepared: Prepared) -> Result<(), OpenError> {
        let before = self.devices.len();
        let added = prepared.devices.iter().try_for_each(|candidate| {
            let handle = match &*self.space {
                DmaSpace::Ioas(ioas) => attach_cdev(ioas, candidate)?,
                DmaSpace::Container(container) => attach_group(container, candidate)?,
            };
            self.take(&candidate.host, handle)
        });
        if added.is_err() {
            let undone: Vec<_> =
                prepared.devices.iter().take(self.devices.len() - before).map(|it| it.host.address).collect();
            undone.into_iter().for_each(|address| self.close(address));
            // A group whose device could not be opened.
            prepared.devices.iter().filter_map(|it| it.host.group.as_ref()).for_each(|it| self.let_go(it.id));
        } else {
            // The guest uses the others.
            let in_use: Vec<_> = self.addresses().take(before).collect();
            self.bus_resets.add(&self.handles(before), &in_use);
        }
        added
    }

    /// Closes a device, whose function is gone. The kernel resets it.
    pub fn close(&mut self, address: PciAddress) {
        let Some(at) = self.devices.iter().position(|opened| opened.device.address() == address) else {
            return;
        };
        self.bus_resets.remove(address);
        let Opened { device, group } = self.devices.remove(at);
        if Arc::into_inner(device).is_none() {
            warn!(%address, "the device stays open: it is still in use");
        }
        self.aftermath.look_at(address);
        if let Some(group) = group {
            self.let_go(group);
        }
    }

    /// Whether a device is among them.
    pub fn has(&self, address: PciAddress) -> bool {
        self.addresses().any(|other| other == address)
    }

    /// How many devices are open.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// What the IOMMU can translate, for all devices together.
    pub fn aperture(&self) -> Aperture {
        self.space.aperture()
    }

    /// The address space: maps guest RAM ([`memory::pin::DmaMapper`]) and BARs ([`DmaSpace::map_mmio`]).
    pub fn space(&self) -> &Arc<DmaSpace> {
        &self.space
    }

    /// The sizes of all BARs, in bytes: powers of two.
    pub fn bar_sizes(&self) -> Vec<u64> {
        let size = |(opened, bar): (&Opened, u8)| opened.device.bar(bar)?.size.checked_next_power_of_two();
        let bars = self.devices.iter().flat_map(|opened| (0..6).map(move |bar| (opened, bar)));
        bars.filter_map(size).collect()
    }

    /// The guest's functions, one per device in the order given to [`Passthrough::open`]. To be called once: two
    /// functions of one device would take its interrupts from each other. Fails when a device does not answer.
    pub fn functions(
        &self,
        interrupts: &Arc<dyn InterruptController>,
    ) -> Result<Vec<Arc<PassthroughFunction>>, OpenError> {
        self.addresses().map(|address| self.function(address, interrupts)).collect()
    }

    /// As [`Passthrough::functions`], for one device.
    pub fn function(
        &self,
        address: PciAddress,
        interrupts: &Arc<dyn InterruptController>,
    ) -> Result<Arc<PassthroughFunction>, OpenError> {
        let found = self.devices.iter().find(|opened| opened.device.address() == address);
        let opened = found.ok_or(OpenError::NotPci(address))?;
        PassthroughFunction::new(opened.device.clone(), interrupts).map(Arc::new)
    }

    fn addresses(&self) -> impl Iterator<Item = PciAddress> {
        self.devices.iter().map(|opened| opened.device.address())
    }

    /// The devices from one on.
    fn handles(&self, first: usize) -> Vec<Arc<Device>> {
        self.devices.iter().skip(first).map(|opened| opened.device.clone()).collect()
    }

    fn take(&mut self, host: &HostDevice, handle: Handle) -> Result<(), OpenError> {
        let device = Arc::new(Device::new(handle, host.address, &self.space)?);
        self.aftermath.expect(host.address);
        self.devices.push(Opened { device, group: host.group.as_ref().map(|group| group.id) });
        Ok(())
    }

    /// Gives a group back unless another device of it is open.
    fn let_go(&self, group: u32) {
        if let (DmaSpace::Container(container), true) =
            (&*self.space, self.devices.iter().all(|opened| opened.group != Some(group)))
        {
            container.detach(group);
        }
    }
}

/// Devices attached to their address space, in the order in which they were asked for.
type Attached = (Vec<Handle>, DmaSpace);

/// `None`: the container, which could serve as well, can do more for these devices.
fn open_iommufd(prepared: &Prepared, kvm: Option<Arc<DeviceFd>>) -> Result<Option<Attached>, OpenError> {
    let iommufd = match &prepared.iommufd {
        Some(iommufd) => Arc::clone(iommufd),
        None => Arc::new(open_node(Path::new("/dev/iommu")).map_err(OpenError::Iommufd)?),
    };
    let ioas = Ioas::new(iommufd, kvm)?;
    let mut handles = Vec::new();
    for candidate in &prepared.devices {
        let handle = attach_cdev(&ioas, candidate)?;
        // Found out at the first of them, before the others are opened, and thus reset, for nothing.
        let peers = prepared.devices.len() > 1;
        if prepared.has_alternative && peers && !sys::iommufd::offers_dma_buf(&handle.file) {
            info!(
                "this kernel's iommufd does not map BARs, so that devices can reach each other: using a container"
            );
            return Ok(None);
        }
        handles.push(handle);
    }
    Ok(Some((handles, DmaSpace::Ioas(ioas))))
}

fn attach_cdev(ioas: &Ioas, candidate: &Candidate) -> Result<Handle, OpenError> {
    let address = candidate.host.address;
    let file = match (&candidate.opened, &candidate.host.cdev) {
        (Some(file), _) => Arc::clone(file),
        (None, Some(name)) => {
            let path = Path::new("/dev/vfio/devices").join(name);
            Arc::new(open_node(&path).map_err(|source| OpenError::Node { path, address, source })?)
        }
        (None, None) => return Err(OpenError::NotPci(address)),
    };
    let nodes = candidate.host.nodes(&Host::default());
    let is_passing = |error: &OpenError| is_in_use(error) && holders(&nodes).is_none();
    let path = nodes.last().map(PathBuf::as_path).unwrap_or(Path::new("/dev/vfio"));
    when_released(path, || ioas.attach(Arc::clone(&file), address), is_passing, RELEASE)
        .map_err(|error| name_holders(error, &nodes))
}

/// All groups come before the first device, so that what fails does so before a device is opened, and thus reset.
fn open_container(prepared: &Prepared, kvm: Option<Arc<DeviceFd>>) -> Result<Attached, OpenError> {
    let mut groups = Vec::new();
    for candidate in &prepared.devices {
        let address = candidate.host.address;
        let group = candidate.host.group.as_ref().ok_or(OpenError::NoGroup(address))?;
        groups.push((group.id, address));
    }
    let container = Container::open(&groups, kvm)?;
    let attach = |candidate: &Candidate| attach_group(&container, candidate);
    let handles = prepared.devices.iter().map(attach).collect::<Result<_, _>>()?;
    Ok((handles, DmaSpace::Container(container)))
}

fn attach_group(container: &Container, candidate: &Candidate) -> Result<Handle, OpenError> {
    let address = candidate.host.address;
    let group = candidate.host.group.as_ref().ok_or(OpenError::NoGroup(address))?;
    container.attach(group.id, address)?;
    let failed = |source| OpenError::Device { address, call: "VFIO_GROUP_GET_DEVICE_FD", source };
    container.device(group.id, address).map_err(failed)
}

/// Whether that may be because the device is open elsewhere: the kernel says EINVAL of a device that is, and EBUSY of a group.
fn is_in_use(error: &OpenError) -> bool {
    matches!(error, OpenError::Device { call: BIND, source, .. }
        if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EBUSY)))
}

/// Who else has one of the nodes open.
fn holders(nodes: &[PathBuf]) -> Option<String> {
    OpenNodes::scan(&Host::default()).of_any(nodes, Some(std::process::id()))
}

fn name_holders(error: OpenError, nodes: &[PathBuf]) -> OpenError {
    if !is_in_use(&error) {
        return error;
    }
    match (error, holders(nodes)) {
        (OpenError::Device { address, source, .. }, Some(holders)) => {
            OpenError::InUse { address, holders, source }
        }
        (error, _) => error,
    }
}

/// Opens a device node for reading and writing.
pub(crate) fn open_node(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}
