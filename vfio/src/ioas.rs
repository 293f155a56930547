//! An I/O address space of an iommufd (Documentation/userspace-api/iommufd.rst).
//!
//! Guest RAM is mapped by its memfd where the kernel can (6.13), which spares it the walk through our page tables, but
//! only while a trial pin holds the pages: `memfd_pin_folios` (mm/gup.c) moves pages in CMA as any long-term pin does,
//! and where one cannot be taken off the kernel's lists it loops until it can, signals unseen. Held pages have nothing
//! to be moved. Others are mapped by address, which a signal ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use devices::pci::{MappedArea, PciAddress};
use devices::virtio::iommu::Access;
use kvm_ioctls::DeviceFd;
use memory::GuestRange;
use memory::pin::{Chunk, MapError};
use tracing::{debug, warn};

use crate::device::Handle;
use crate::info::Aperture;
use crate::kvm::KvmMember;
use crate::session::OpenError;
use crate::sys::iommufd as sys;

/// An I/O address space, and the iommufd it belongs to.
pub struct Ioas {
    iommufd: Arc<File>,
    id: u32,
    kvm: Option<Arc<DeviceFd>>,
    aperture: Mutex<Aperture>,
    counts_by_user: bool,
    /// Whether the kernel maps files.
    by_file: AtomicBool,
    /// Which BARs are mapped where in this process.
    mmio: Mutex<BTreeMap<u64, BarMemory>>,
}

/// A mapped part of a BAR.
struct BarMemory {
    device: Weak<File>,
    index: u32,
    /// In the BAR, in bytes.
    offset: u64,
    size: u64,
}

impl Ioas {
    /// A new one. `kvm` is a `KVM_DEV_TYPE_VFIO` device, which is told of each device.
    pub(crate) fn new(iommufd: Arc<File>, kvm: Option<Arc<DeviceFd>>) -> Result<Self, OpenError> {
        let failed = |call| move |source| OpenError::Iommu { call, source };
        // Else trial pins and maps count against one limit, and so do all machines of the user.
        if let Err(error) = sys::count_by_process(&iommufd) {
            debug!(%error, "pinned memory counts by user");
        }
        let by_process = sys::counts_by_process(&iommufd).map_err(failed("IOMMU_OPTION"))?;
        let id = sys::ioas_alloc(&iommufd).map_err(failed("IOMMU_IOAS_ALLOC"))?;
        Ok(Self {
            iommufd,
            id,
            kvm,
            aperture: Mutex::default(),
            counts_by_user: !by_process,
            by_file: AtomicBool::new(true),
            mmio: Mutex::default(),
        })
    }

    /// Binds the device of a cdev, which resets it, and attaches it.
    pub(crate) fn attach(&self, device: Arc<File>, address: PciAddress) -> Result<Handle, OpenError> {
        let failed = |call| move |source| OpenError::Device { address, call, source };
        let member = self.kvm.as_ref().map(|kvm| KvmMember::add(kvm, &device));
        let member = member.transpose().map_err(failed("KVM_DEV_VFIO_FILE_ADD"))?;
        sys::bind(&device, &self.iommufd).map_err(failed("VFIO_DEVICE_BIND_IOMMUFD"))?;
        let attachment =
            Attachment::new(&device, self.id).map_err(failed("VFIO_DEVICE_ATTACH_IOMMUFD_PT"))?;
        let ranges = sys::iova_ranges(&self.iommufd, self.id)
            .map_err(|source| OpenError::Iommu { call: "IOMMU_IOAS_IOVA_RANGES", source })?;
        *self.aperture.lock().unwrap_or_else(PoisonError::into_inner) = Aperture::from_ranges(ranges);
        Ok(Handle { attachment: Some(attachment), member, file: device })
    }

    /// What the IOMMU can translate, for all attached devices together.
    pub(crate) fn aperture(&self) -> Aperture {
        self.aperture.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether pinned pages count against what the user has locked in all processes, instead of this one.
    pub(crate) fn counts_by_user(&self) -> bool {
        self.counts_by_user
    }

    /// Maps guest RAM where `chunk` says, its guest address being the IOVA; `held` is its memfd if a trial pin holds the pages.
    pub(crate) fn map(
        &self,
        chunk: &Chunk,
        access: Access,
        held: Option<BorrowedFd<'_>>,
    ) -> Result<(), MapError> {
        let Chunk { guest, hva, offset } = *chunk;
        if let (Some(memfd), true) = (held, self.by_file.load(Ordering::Relaxed)) {
            let file = (memfd.as_raw_fd(), offset);
            match sys::map_file(&self.iommufd, self.id, guest.start, guest.size, file, access) {
                Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
                    debug!("the kernel does not map files: guest memory is mapped by address");
                    self.by_file.store(false, Ordering::Relaxed);
                }
                result => return result.map_err(failed("IOMMU_IOAS_MAP_FILE", guest)),
            }
        }
        sys::map(&self.iommufd, self.id, guest.start, guest.size, hva, access)
            .map_err(failed("IOMMU_IOAS_MAP", guest))
    }

    /// Undoes a map of exactly this range.
    pub(crate) fn unmap_range(&self, iova: u64, size: u64) -> Result<(), MapError> {
        let failed = failed("IOMMU_IOAS_UNMAP", GuestRange { start: iova, size });
        match sys::unmap(&self.iommufd, self.id, iova, size) {
            Ok(unmapped) if unmapped == size => Ok(()),
            Ok(unmapped) => Err(failed(io::Error::other(format!("{unmapped:#x} bytes were mapped")))),
            Err(source) => Err(failed(source)),
        }
    }

    /// Unmaps all there is.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match sys::unmap(&self.iommufd, self.id, 0, u64::MAX) {
            // There is nothing.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Remembers which BAR is behind `areas`.
    pub(crate) fn know_mmio(&self, device: &Arc<File>, index: u32, areas: &[MappedArea]) {
        let mut mmio = self.mmio.lock().unwrap_or_else(PoisonError::into_inner);
        mmio.retain(|_, memory| memory.device.strong_count() > 0);
        mmio.extend(areas.iter().map(|area| {
            let device = Arc::downgrade(device);
            (area.hva, BarMemory { device, index, offset: area.offset, size: area.size })
        }));
    }

    /// Maps a part of a BAR, as a dma-buf: iommufd pins, and there is nothing to pin behind a BAR's address.
    pub(crate) fn map_mmio(&self, gpa: u64, area: &MappedArea) -> Result<(), MapError> {
        let guest = GuestRange { start: gpa, size: area.size };
        let dma_buf = self.dma_buf(area).map_err(failed("VFIO_DEVICE_FEATURE_DMA_BUF", guest))?;
        sys::map_file(&self.iommufd, self.id, gpa, area.size, (dma_buf.as_raw_fd(), 0), Access::ALL)
            .map_err(failed("IOMMU_IOAS_MAP_FILE", guest))
    }

    fn dma_buf(&self, area: &MappedArea) -> io::Result<File> {
        let mmio = self.mmio.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, memory) = mmio.range(..=area.hva).next_back().ok_or(io::ErrorKind::NotFound)?;
        let skipped = area.hva - start;
        let device = memory.device.upgrade().filter(|_| skipped.saturating_add(area.size) <= memory.size);
        let device = device.ok_or(io::ErrorKind::NotFound)?;
        sys::dma_buf(&device, memory.index, memory.offset + skipped, area.size)
    }
}

/// A device's place in an IOAS, until this is dropped. Closing the device ends it as well, but a descriptor that was
/// handed over may stay open in other hands.
pub(crate) struct Attachment(Arc<File>);

impl Attachment {
    fn new(device: &Arc<File>, ioas: u32) -> io::Result<Self> {
        sys::attach(device, ioas)?;
        Ok(Self(Arc::clone(device)))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Err(error) = sys::detach(&self.0) {
            warn!(%error, "cannot detach a device from its IOMMU address space");
        }
    }
}

impl Drop for Ioas {
    /// Devices hold it, so none of them is attached any more. Its maps go with it.
    fn drop(&mut self) {
        // An iommufd that was handed over may outlive us in other hands.
        if let Err(error) = sys::destroy(&self.iommufd, self.id) {
            warn!(%error, "cannot destroy the IOMMU address space");
        }
    }
}

fn failed(call: &'static str, guest: GuestRange) -> impl Fn(io::Error) -> MapError {
    move |source| MapError { call, guest, source }
}
