//! A VFIO container: the IOMMU address space of its groups (Documentation/driver-api/vfio.rst), through the type1v2
//! IOMMU driver.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use devices::pci::PciAddress;
use kvm_ioctls::DeviceFd;
use memory::GuestRange;
use memory::pin::MapError;
use tracing::warn;
use vfio_bindings::bindings::vfio::{VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE1v2_IOMMU};
use vfio_ioctls::{VfioContainer, VfioError};

use crate::device::Handle;
use crate::info::Aperture;
use crate::kvm::KvmMember;
use crate::session::{OpenError, open_node};
use crate::sys;

/// One IOMMU address space and the groups attached to it.
pub struct Container {
    vfio: VfioContainer,
    kvm: Option<Arc<DeviceFd>>,
    groups: Vec<AttachedGroup>,
    aperture: Aperture,
}

struct AttachedGroup {
    id: u32,
    file: Arc<File>,
    member: Option<KvmMember>,
}

impl Container {
    /// Opens a container and attaches the groups, each named with a device in it. `kvm` is a `KVM_DEV_TYPE_VFIO`
    /// device, which is told of each group.
    pub(crate) fn open(groups: &[(u32, PciAddress)], kvm: Option<Arc<DeviceFd>>) -> Result<Self, OpenError> {
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

    /// The attached groups with their descriptors.
    pub(crate) fn groups(&self) -> Vec<(u32, RawFd)> {
        self.groups.iter().map(|group| (group.id, group.file.as_raw_fd())).collect()
    }

    /// What the IOMMU can translate, for all attached groups together.
    pub(crate) fn aperture(&self) -> &Aperture {
        &self.aperture
    }

    /// Opens a device of an attached group. The kernel resets it while opening, if it can.
    pub(crate) fn device(&self, group: u32, address: PciAddress) -> io::Result<Handle> {
        let attached = self.groups.iter().find(|attached| attached.id == group);
        let attached = attached.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let file = sys::group_device(&attached.file, &CString::new(address.to_string())?)?;
        Ok(Handle { attachment: None, member: None, file: Arc::new(file) })
    }

    fn attach(&mut self, id: u32, address: PciAddress) -> Result<(), OpenError> {
        let path = Path::new("/dev/vfio").join(id.to_string());
        let file = open_node(&path).map_err(|source| OpenError::Node { path, address, source })?;
        let failed = |call| move |source| OpenError::Attach { group: id, address, call, source };

        let status = sys::group_status(&file).map_err(failed("VFIO_GROUP_GET_STATUS"))?;
        if status & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(OpenError::NotViable { group: id, address });
        }
        sys::group_set_container(&file, &self.vfio).map_err(failed("VFIO_GROUP_SET_CONTAINER"))?;
        // From here on dropping `self` detaches the group.
        let file = Arc::new(file);
        self.groups.push(AttachedGroup { id, file: Arc::clone(&file), member: None });
        if self.groups.len() == 1 {
            sys::set_iommu(&self.vfio, VFIO_TYPE1v2_IOMMU).map_err(failed("VFIO_SET_IOMMU"))?;
        }
        if let (Some(kvm), Some(group)) = (&self.kvm, self.groups.last_mut()) {
            group.member = Some(KvmMember::add(kvm, &file).map_err(failed("KVM_DEV_VFIO_FILE_ADD"))?);
        }
        Ok(())
    }

    /// Maps memory of this process.
    pub(crate) fn map_range(&self, iova: u64, size: u64, hva: u64) -> Result<(), MapError> {
        let guest = GuestRange { start: iova, size };
        sys::map_dma(&self.vfio, iova, size, hva).map_err(|source| MapError {
            call: "VFIO_IOMMU_MAP_DMA",
            guest,
            source,
        })
    }

    /// Undoes [`Container::map_range`] of exactly this range.
    pub(crate) fn unmap_range(&self, iova: u64, size: u64) -> Result<(), MapError> {
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

impl Drop for Container {
    /// Devices hold the container, so none of them is open any more.
    fn drop(&mut self) {
        for group in &mut self.groups {
            group.member = None;
            if let Err(error) = sys::group_unset_container(&group.file) {
                warn!(group = group.id, %error, "cannot detach the VFIO group");
            }
        }
    }
}
