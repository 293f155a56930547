//! A VFIO container: one IOMMU address space that all devices of a machine share (Documentation/driver-api/vfio.rst).
//!
//! It lives as long as the machine's session. Guest reboots neither close it nor touch its maps. This is the backend
//! for the type1v2 IOMMU driver; everything above knows it as a [`DmaMapper`] with an [`Aperture`].

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use devices::pci::{MappedArea, PciAddress};
use kvm_bindings::{KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL, kvm_device_attr};
use kvm_ioctls::DeviceFd;
use memory::GuestRange;
use memory::pin::{Chunk, DmaMapper, MapError};
use tracing::warn;
use vfio_bindings::bindings::vfio::{VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE1v2_IOMMU};
use vfio_ioctls::{VfioContainer, VfioError};

pub use crate::info::Aperture;
use crate::session::OpenError;
use crate::sys;

/// One IOMMU address space and the groups attached to it.
pub struct Container {
    vfio: VfioContainer,
    kvm: Option<DeviceFd>,
    groups: Vec<AttachedGroup>,
    aperture: Aperture,
}

struct AttachedGroup {
    id: u32,
    file: File,
    /// Whether KVM holds on to the file as well.
    known_to_kvm: bool,
}

impl Container {
    /// Opens a container and attaches the groups, each named with a device in it. `kvm` is a `KVM_DEV_TYPE_VFIO`
    /// device, which is told of each group.
    pub(crate) fn open(groups: &[(u32, PciAddress)], kvm: Option<DeviceFd>) -> Result<Self, OpenError> {
        let vfio = VfioContainer::new(None).map_err(|error| match error {
            VfioError::OpenContainer(source) => OpenError::Container(source),
            other => OpenError::Unsupported(other),
        })?;
        let mut container = Self { vfio, kvm, groups: Vec::new(), aperture: Aperture::default() };
        for (id, address) in groups {
            if !container.groups.iter().any(|group| group.id == *id) {
                container.attach(*id, *address)?;
            }
        }
        if !container.groups.is_empty() {
            let answer = sys::iommu_info(&container.vfio)
                .map_err(|source| OpenError::Iommu { call: "VFIO_IOMMU_GET_INFO", source })?;
            container.aperture = Aperture::parse(&answer);
        }
        Ok(container)
    }

    /// What the IOMMU can translate, for all attached groups together.
    pub fn aperture(&self) -> &Aperture {
        &self.aperture
    }

    /// Lets the other devices of the machine reach a device's BAR: maps `area` at IOVA `gpa`. A failure costs
    /// peer-to-peer DMA and nothing else.
    pub fn map_mmio(&self, gpa: u64, area: &MappedArea) -> Result<(), MapError> {
        self.map_range(gpa, area.size, area.hva)
    }

    /// Undoes [`Container::map_mmio`] of exactly this area.
    pub fn unmap_mmio(&self, gpa: u64, area: &MappedArea) -> Result<(), MapError> {
        self.unmap_range(gpa, area.size)
    }

    /// Opens a device of an attached group. The kernel resets it while opening, if it can.
    pub(crate) fn device(&self, group: u32, address: PciAddress) -> io::Result<File> {
        let attached = self.groups.iter().find(|attached| attached.id == group);
        let attached = attached.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        sys::group_device(&attached.file, &CString::new(address.to_string())?)
    }

    fn attach(&mut self, id: u32, address: PciAddress) -> Result<(), OpenError> {
        let path = Path::new("/dev/vfio").join(id.to_string());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| OpenError::Group { path, address, source })?;
        let failed = |call| move |source| OpenError::Attach { group: id, address, call, source };

        let status = sys::group_status(&file).map_err(failed("VFIO_GROUP_GET_STATUS"))?;
        if status & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(OpenError::NotViable { group: id, address });
        }
        sys::group_set_container(&file, self.vfio.as_raw_fd()).map_err(failed("VFIO_GROUP_SET_CONTAINER"))?;
        // From here on dropping `self` detaches the group.
        self.groups.push(AttachedGroup { id, file, known_to_kvm: false });
        if self.groups.len() == 1 {
            sys::set_iommu(&self.vfio, VFIO_TYPE1v2_IOMMU).map_err(failed("VFIO_SET_IOMMU"))?;
        }
        if let (Some(kvm), Some(group)) = (&self.kvm, self.groups.last_mut()) {
            group.tell_kvm(kvm, KVM_DEV_VFIO_FILE_ADD).map_err(failed("KVM_DEV_VFIO_FILE_ADD"))?;
            group.known_to_kvm = true;
        }
        Ok(())
    }

    fn map_range(&self, iova: u64, size: u64, hva: u64) -> Result<(), MapError> {
        let guest = GuestRange { start: iova, size };
        sys::map_dma(&self.vfio, iova, size, hva).map_err(|source| MapError {
            call: "VFIO_IOMMU_MAP_DMA",
            guest,
            source,
        })
    }

    fn unmap_range(&self, iova: u64, size: u64) -> Result<(), MapError> {
        let failed = |source| MapError {
            call: "VFIO_IOMMU_UNMAP_DMA",
            guest: GuestRange { start: iova, size },
            source,
        };
        match sys::unmap_dma(&self.vfio, iova, size) {
            Ok(unmapped) if unmapped == size => Ok(()),
            Ok(unmapped) => Err(failed(io::Error::other(format!("{unmapped:#x} bytes were mapped")))),
            Err(source) => Err(failed(source)),
        }
    }
}

impl DmaMapper for Container {
    fn map(&self, chunk: &Chunk) -> Result<(), MapError> {
        self.map_range(chunk.guest.start, chunk.guest.size, chunk.hva)
    }

    fn unmap(&self, chunk: &Chunk) -> Result<(), MapError> {
        self.unmap_range(chunk.guest.start, chunk.guest.size)
    }
}

impl Drop for Container {
    /// Devices hold the container, so none of them is open any more.
    fn drop(&mut self) {
        for group in &self.groups {
            if let (Some(kvm), true) = (&self.kvm, group.known_to_kvm)
                && let Err(error) = group.tell_kvm(kvm, KVM_DEV_VFIO_FILE_DEL)
            {
                warn!(group = group.id, %error, "KVM keeps the VFIO group");
            }
            if let Err(error) = sys::group_unset_container(&group.file) {
                warn!(group = group.id, %error, "cannot detach the VFIO group");
            }
        }
    }
}

impl AttachedGroup {
    fn tell_kvm(&self, kvm: &DeviceFd, attribute: u32) -> io::Result<()> {
        let fd = self.file.as_raw_fd();
        let attribute = kvm_device_attr {
            flags: 0,
            group: KVM_DEV_VFIO_FILE,
            attr: attribute.into(),
            addr: &raw const fd as u64,
        };
        kvm.set_device_attr(&attribute).map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }
}
