//! A VFIO container: the IOMMU address space of its groups (Documentation/driver-api/vfio.rst), through the type1v2
//! IOMMU driver.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::pci::PciAddress;
use devices::virtio::iommu::Access;
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
    groups: Mutex<Vec<AttachedGroup>>,
    aperture: Mutex<Aperture>,
}

/// Dropping it detaches the group; none of its devices may be open any more.
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
        let container = Self { vfio, kvm, groups: Mutex::default(), aperture: Mutex::default() };
        groups.iter().try_for_each(|(id, address)| container.attach(*id, *address))?;
        Ok(container)
    }

    /// The attached groups with their descriptors.
    pub(crate) fn groups(&self) -> Vec<(u32, RawFd)> {
        self.attached().iter().map(|group| (group.id, group.file.as_raw_fd())).collect()
    }

    /// What the IOMMU can translate, for all attached groups together.
    pub(crate) fn aperture(&self) -> Aperture {
        self.aperture.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Attaches a group, named with a device in it, unless it is attached.
    pub(crate) fn attach(&self, id: u32, address: PciAddress) -> Result<(), OpenError> {
        let mut groups = self.attached();
        if groups.iter().any(|group| group.id == id) {
            return Ok(());
        }
        let path = Path::new("/dev/vfio").join(id.to_string());
        let file = open_node(&path).map_err(|source| OpenError::Node { path, address, source })?;
        let failed = |call| move |source| OpenError::Attach { group: id, address, call, source };

        let status = sys::group_status(&file).map_err(failed("VFIO_GROUP_GET_STATUS"))?;
        if status & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(OpenError::NotViable { group: id, address });
        }
        sys::group_set_container(&file, &self.vfio).map_err(failed("VFIO_GROUP_SET_CONTAINER"))?;
        let mut group = AttachedGroup { id, file: Arc::new(file), member: None };
        if groups.is_empty() {
            sys::set_iommu(&self.vfio, VFIO_TYPE1v2_IOMMU).map_err(failed("VFIO_SET_IOMMU"))?;
        }
        if let Some(kvm) = &self.kvm {
            let member = KvmMember::add(kvm, &group.file).map_err(failed("KVM_DEV_VFIO_FILE_ADD"))?;
            group.member = Some(member);
        }
        let answer = sys::iommu_info(&self.vfio)
            .map_err(|source| OpenError::Iommu { call: "VFIO_IOMMU_GET_INFO", source })?;
        *self.aperture.lock().unwrap_or_else(PoisonError::into_inner) = Aperture::parse(&answer);
        groups.push(group);
        Ok(())
    }

    /// Detaches a group, none of whose devices is open any more.
    pub(crate) fn detach(&self, id: u32) {
        self.attached().retain(|group| group.id != id);
    }

    fn attached(&self) -> MutexGuard<'_, Vec<AttachedGroup>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a device of an attached group. The kernel resets it while opening, if it can.
    pub(crate) fn device(&self, group: u32, address: PciAddress) -> io::Result<Handle> {
        let groups = self.attached();
        let attached = groups.iter().find(|attached| attached.id == group);
        let attached = attached.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let file = sys::group_device(&attached.file, &CString::new(address.to_string())?)?;
        Ok(Handle { attachment: None, member: None, file: Arc::new(file) })
    }

    /// Maps memory of this process.
    pub(crate) fn map_range(&self, iova: u64, size: u64, hva: u64, access: Access) -> Result<(), MapError> {
        let guest = GuestRange { start: iova, size };
        sys::map_dma(&self.vfio, iova, size, hva, access).map_err(|source| MapError {
            call: "VFIO_IOMMU_MAP_DMA",
            guest,
            source,
        })
    }

    /// Unmaps all there is.
    pub(crate) fn clear(&self) -> io::Result<()> {
        sys::unmap_all(&self.vfio)
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

impl Drop for AttachedGroup {
    fn drop(&mut self) {
        self.member = None;
        if let Err(error) = sys::group_unset_container(&self.file) {
            warn!(group = self.id, %error, "cannot detach the VFIO group");
        }
    }
}
