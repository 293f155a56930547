//! PCI devices as the host's sysfs shows them (Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use devices::pci::PciAddress;

use crate::text;

/// Base class and subclass of a PCI-to-PCI bridge.
const CLASS_PCI_BRIDGE: u32 = 0x0604;

/// Where the host's kernel shows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub(crate) sys: PathBuf,
    pub(crate) dev: PathBuf,
    pub(crate) proc: PathBuf,
    pub(crate) run: PathBuf,
}

impl Default for Host {
    /// The running kernel.
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

/// A PCI device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// Its address.
    pub address: PciAddress,
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class code, 24 bits.
    pub class: u32,
    /// The host driver bound to it.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub group: Option<Group>,
    /// The name of its own node in /dev/vfio/devices, if a VFIO driver holds it and the kernel has such nodes.
    pub cdev: Option<String>,
    /// NUMA node, if the host has several.
    pub numa_node: Option<u32>,
    /// How the kernel can reset it, best first (`flr`, `pm`, `bus`); empty when it cannot.
    pub reset_methods: Vec<String>,
    /// Bytes of each BAR, 0 where there is none.
    pub bar_sizes: [u64; 6],
}

/// An IOMMU group: the devices that the IOMMU cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number, as in `/dev/vfio/12`.
    pub id: u32,
    /// Its devices, by address.
    pub members: Vec<Member>,
}

/// A device in an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: PciAddress,
    /// The host driver bound to it.
    pub driver: Option<String>,
    /// Class code, 24 bits.
    pub class: u32,
}

/// Why a device could not be looked at.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DiscoverError {
    /// No such device.
    #[error("there is no PCI device {0}")]
    #[diagnostic(help("the devices of this host are listed in /sys/bus/pci/devices"))]
    Absent(PciAddress),
    /// Sysfs could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Sysfs says what it never should.
    #[error("{} holds `{text}`, which is not what the kernel writes there", path.display())]
    Parse {
        /// What was read.
        path: PathBuf,
        /// What it held.
        text: String,
    },
}

impl HostDevice {
    /// Looks up a device of the running host.
    pub fn find(address: PciAddress) -> Result<Self, DiscoverError> {
        Host::default().find(address)
    }

    /// Whether a VFIO driver holds it: vfio-pci, or a variant driver made for the device.
    pub fn is_bound_to_vfio(&self) -> bool {
        self.driver.as_deref().is_some_and(is_vfio_driver)
    }

    /// Whether it is a PCI-to-PCI bridge, which VFIO does not hand out.
    pub fn is_bridge(&self) -> bool {
        self.class >> 8 == CLASS_PCI_BRIDGE
    }
}

impl Member {
    /// Whether it is a PCI-to-PCI bridge.
    pub fn is_bridge(&self) -> bool {
        self.class >> 8 == CLASS_PCI_BRIDGE
    }

    /// Whether it keeps its group from being used: a host driver drives it. Bridges do no DMA of their own and do not
    /// count, nor do devices without a driver.
    pub fn is_obstacle(&self) -> bool {
        let driven =
            self.driver.as_deref().is_some_and(|driver| !is_vfio_driver(driver) && driver != "pci-stub");
        driven && !self.is_bridge()
    }
}

/// Variant drivers carry the name too: mlx5_vfio_pci, nvgrace_gpu_vfio_pci, ...
pub(crate) fn is_vfio_driver(name: &str) -> bool {
    name.contains("vfio")
}

impl Host {
    /// A host whose /sys, /dev, /proc and /run are found below `root`.
    pub fn at(root: &Path) -> Self {
        let [sys, dev, proc, run] = ["sys", "dev", "proc", "run"].map(|name| root.join(name));
        Self { sys, dev, proc, run }
    }

    /// The addresses of all PCI devices, ascending.
    pub fn addresses(&self) -> Result<Vec<PciAddress>, DiscoverError> {
        let path = self.sys.join("bus/pci/devices");
        let listed = fs::read_dir(&path).map_err(|source| DiscoverError::Read { path, source })?;
        let address = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut addresses: Vec<PciAddress> = listed.flatten().filter_map(address).collect();
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// Looks up a device.
    pub fn find(&self, address: PciAddress) -> Result<HostDevice, DiscoverError> {
        let path = self.device_path(address);
        if !path.exists() {
            return Err(DiscoverError::Absent(address));
        }
        Ok(HostDevice {
            address,
            vendor: number(&path.join("vendor"))? as u16,
            device: number(&path.join("device"))? as u16,
            class: number(&path.join("class"))?,
            driver: link_name(&path.join("driver")),
            group: self.group(&path)?,
            cdev: entries(&path.join("vfio-dev")).into_iter().next(),
            numa_node: text::read(&path.join("numa_node")).ok().and_then(|text| text.trim().parse().ok()),
            reset_methods: text::read(&path.join("reset_method"))
                .map(|text| text.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            bar_sizes: bar_sizes(&path.join("resource"))?,
        })
    }

    /// Whether the kernel uses an IOMMU at all.
    pub(crate) fn has_iommu(&self) -> bool {
        fs::read_dir(self.sys.join("kernel/iommu_groups")).is_ok_and(|mut groups| groups.next().is_some())
    }

    /// Whether the vfio-pci driver is loaded.
    pub(crate) fn has_vfio_pci(&self) -> bool {
        self.sys.join("bus/pci/drivers/vfio-pci").exists()
    }

    pub(crate) fn device_path(&self, address: PciAddress) -> PathBuf {
        self.sys.join("bus/pci/devices").join(address.to_string())
    }

    fn group(&self, device: &Path) -> Result<Option<Group>, DiscoverError> {
        let link = device.join("iommu_group");
        let Some(name) = link_name(&link) else { return Ok(None) };
        let id = name.parse().map_err(|_| DiscoverError::Parse { path: link, text: name.clone() })?;
        let list = self.sys.join("kernel/iommu_groups").join(&name).join("devices");
        let entries =
            fs::read_dir(&list).map_err(|source| DiscoverError::Read { path: list.clone(), source })?;
        let mut members = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| DiscoverError::Read { path: list.clone(), source })?;
            // Groups may also hold devices of other buses; those have no PCI address and no say here.
            let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let path = self.device_path(address);
            let class = number(&path.join("class"))?;
            members.push(Member { address, driver: link_name(&path.join("driver")), class });
        }
        members.sort_by_key(|member| member.address);
        Ok(Some(Group { id, members }))
    }
}

/// The names in a directory, sorted; none if it cannot be read.
pub(crate) fn entries(path: &Path) -> Vec<String> {
    let listed = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = listed.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Whether a link into /sys/devices leads to or through the device at `address`.
pub(crate) fn has_component(link: &Path, address: PciAddress) -> bool {
    link.iter().any(|component| component == address.to_string().as_str())
}

/// The last component of what a symbolic link points to.
pub(crate) fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

/// A number as sysfs writes it, `0x8086`.
fn number(path: &Path) -> Result<u32, DiscoverError> {
    let text = text::read(path).map_err(|source| DiscoverError::Read { path: path.to_owned(), source })?;
    parse_hex(text.trim())
        .and_then(|value| u32::try_from(value).ok())
        .ok_or_else(|| DiscoverError::Parse { path: path.to_owned(), text: text.trim().to_owned() })
}

fn parse_hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// `resource`: a line `start end flags` for each BAR, then for the ROM.
fn bar_sizes(path: &Path) -> Result<[u64; 6], DiscoverError> {
    let text = text::read(path).map_err(|source| DiscoverError::Read { path: path.to_owned(), source })?;
    let mut sizes = [0; 6];
    for (size, line) in sizes.iter_mut().zip(text.lines()) {
        let mut fields = line.split_whitespace().map(parse_hex);
        let (Some(Some(start)), Some(Some(end))) = (fields.next(), fields.next()) else {
            return Err(DiscoverError::Parse { path: path.to_owned(), text: line.to_owned() });
        };
        *size = if end > start { (end - start).saturating_add(1) } else { 0 };
    }
    Ok(sizes)
}

#[cfg(test)]
#[path = "sysfs_test.rs"]
pub(crate) mod tests;
