//! All passed-through devices of one machine, from before its RAM exists until after it is gone.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use devices::irq::InterruptController;
use devices::pci::PciAddress;
use kvm_ioctls::DeviceFd;
use miette::Diagnostic;
use vfio_ioctls::VfioError;

use crate::container::{Aperture, Container};
use crate::device::Device;
use crate::function::PassthroughFunction;
use crate::sysfs::HostDevice;

/// Why devices could not be opened. What [`crate::preflight`] finds mostly does not get this far.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The container could not be opened.
    #[error("cannot open /dev/vfio/vfio")]
    Container(#[source] io::Error),
    /// The kernel's VFIO is another one.
    #[error("the kernel's VFIO has no type 1 IOMMU driver")]
    Unsupported(#[source] VfioError),
    /// The device has no IOMMU group.
    #[error("{0} has no IOMMU group")]
    NoGroup(PciAddress),
    /// A group could not be opened.
    #[error("cannot open {} for {address}", path.display())]
    Group {
        /// Its node.
        path: PathBuf,
        /// A device in it.
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

impl Diagnostic for OpenError {
    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        let text = match self {
            Self::Container(_) | Self::Unsupported(_) => "modprobe vfio-pci vfio_iommu_type1",
            Self::NoGroup(_) => {
                "turn VT-d or AMD-Vi on in the firmware, and boot the host with intel_iommu=on (Intel) or without \
                 amd_iommu=off (AMD)"
            }
            Self::Group { source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
                "a group can be open once: stop the other user, or use another device"
            }
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
            Self::Device { source, .. } if source.raw_os_error() == Some(libc::EAGAIN) => {
                "the device is being reset by somebody else: try again"
            }
            Self::Silent(_) => {
                "it is powered off, has failed or was pulled out: see `dmesg`, and power the host off and on"
            }
            Self::Device { .. } => "`dmesg | grep vfio` tells what the host's driver made of it",
            Self::Group { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as root, or have the group's node given to this user"
            }
            Self::Group { .. } => "bind the device to vfio-pci: the group's node exists only then",
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
/// all DMA maps and detaches the groups.
pub struct Passthrough {
    devices: Vec<Arc<Device>>,
    container: Arc<Container>,
}

impl Passthrough {
    /// Opens the devices (from [`crate::preflight::check`]) in one container. `kvm_vfio` is a `KVM_DEV_TYPE_VFIO`
    /// device; each group is added to it before its devices are opened. Undone completely when anything fails.
    pub fn open(devices: &[HostDevice], kvm_vfio: Option<DeviceFd>) -> Result<Self, OpenError> {
        let group = |device: &HostDevice| match &device.group {
            Some(group) => Ok((group.id, device.address)),
            None => Err(OpenError::NoGroup(device.address)),
        };
        let places: Vec<(u32, PciAddress)> = devices.iter().map(group).collect::<Result<_, _>>()?;
        let container = Arc::new(Container::open(&places, kvm_vfio)?);
        let open = |(group, address)| Device::open(&container, group, address).map(Arc::new);
        let devices = places.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { devices, container })
    }

    /// What the IOMMU can translate, for all devices together.
    pub fn aperture(&self) -> &Aperture {
        self.container.aperture()
    }

    /// The address space: maps guest RAM ([`memory::pin::DmaMapper`]) and BARs ([`Container::map_mmio`]).
    pub fn container(&self) -> &Arc<Container> {
        &self.container
    }

    /// The guest's functions, one per device in the order given to [`Passthrough::open`]. To be called once: two
    /// functions of one device would take its interrupts from each other. Fails when a device does not answer.
    pub fn functions(
        &self,
        interrupts: &Arc<dyn InterruptController>,
    ) -> Result<Vec<Arc<PassthroughFunction>>, OpenError> {
        let function =
            |device: &Arc<Device>| PassthroughFunction::new(device.clone(), interrupts).map(Arc::new);
        self.devices.iter().map(function).collect()
    }
}
