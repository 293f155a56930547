//! The iommufd kernel interface (linux/iommufd.h, Documentation/userspace-api/iommufd.rst) and VFIO's side of it: one
//! thin function per ioctl, each returning the errno.
//!
//! # Unsafe
//!
//! Every ioctl here passes a struct that lives through the call and carries its own size. What it points to is named
//! at the call.
#![expect(unsafe_code, reason = "ioctls")]

use std::ffi::c_ulong;
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use devices::virtio::iommu::Access;
use iommufd_bindings::{
    IOMMUFD_CMD_DESTROY, IOMMUFD_CMD_IOAS_ALLOC, IOMMUFD_CMD_IOAS_IOVA_RANGES, IOMMUFD_CMD_IOAS_MAP,
    IOMMUFD_CMD_IOAS_MAP_FILE, IOMMUFD_CMD_IOAS_UNMAP, IOMMUFD_CMD_OPTION, IOMMUFD_TYPE, iommu_destroy,
    iommu_ioas_alloc, iommu_ioas_iova_ranges, iommu_ioas_map, iommu_ioas_map_file, iommu_ioas_unmap,
    iommu_iova_range, iommu_option, iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE, iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE,
    iommufd_option_IOMMU_OPTION_RLIMIT_MODE, iommufd_option_ops_IOMMU_OPTION_OP_GET,
    iommufd_option_ops_IOMMU_OPTION_OP_SET,
};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_PROBE,
    vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_device_detach_iommufd_pt,
    vfio_device_feature, vfio_device_feature_dma_buf, vfio_region_dma_range,
};
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ptr, ioctl_with_ref};

use super::{check, number};

const _: () = {
    assert!(size_of::<iommu_destroy>() == 8 && size_of::<iommu_ioas_alloc>() == 12);
    assert!(size_of::<iommu_ioas_iova_ranges>() == 32 && size_of::<iommu_iova_range>() == 16);
    assert!(size_of::<iommu_ioas_map>() == 40 && size_of::<iommu_ioas_map_file>() == 40);
    assert!(size_of::<iommu_ioas_unmap>() == 24 && size_of::<iommu_option>() == 24);
    assert!(offset_of!(vfio_device_bind_iommufd, token_uuid_ptr) == 16);
    assert!(offset_of!(vfio_device_attach_iommufd_pt, pasid) == 12);
    assert!(offset_of!(vfio_device_detach_iommufd_pt, pasid) == 8);
    assert!(size_of::<vfio_device_feature>() == 8 && size_of::<vfio_device_feature_dma_buf>() == 16);
    assert!(size_of::<vfio_region_dma_range>() == 16);
};

const fn iommu(command: u32) -> c_ulong {
    // _IO(';', command): all of iommufd is without direction and size.
    ((IOMMUFD_TYPE as u32) << 8 | command) as c_ulong
}

const DESTROY: c_ulong = iommu(IOMMUFD_CMD_DESTROY);
const IOAS_ALLOC: c_ulong = iommu(IOMMUFD_CMD_IOAS_ALLOC);
const IOAS_IOVA_RANGES: c_ulong = iommu(IOMMUFD_CMD_IOAS_IOVA_RANGES);
const IOAS_MAP: c_ulong = iommu(IOMMUFD_CMD_IOAS_MAP);
const IOAS_MAP_FILE: c_ulong = iommu(IOMMUFD_CMD_IOAS_MAP_FILE);
const IOAS_UNMAP: c_ulong = iommu(IOMMUFD_CMD_IOAS_UNMAP);
const OPTION: c_ulong = iommu(IOMMUFD_CMD_OPTION);
const DEVICE_FEATURE: c_ulong = number(17);
const DEVICE_BIND_IOMMUFD: c_ulong = number(18);
const DEVICE_ATTACH_IOMMUFD_PT: c_ulong = number(19);
const DEVICE_DETACH_IOMMUFD_PT: c_ulong = number(20);

/// The flags of a map at an IOVA that is given.
fn fixed(access: Access) -> u32 {
    let read = if access.read { iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE } else { 0 };
    let write = if access.write { iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE } else { 0 };
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA | read | write
}

/// More ranges than an IOMMU ever leaves; a bound on what the kernel can make us allocate.
const MAX_RANGES: usize = 1 << 16;

/// `VFIO_DEVICE_BIND_IOMMUFD`: opens the device of a cdev, which is reset, if it can be. Returns its id in `iommufd`.
pub(crate) fn bind(device: &File, iommufd: &File) -> io::Result<u32> {
    let mut bind = vfio_device_bind_iommufd {
        argsz: offset_of!(vfio_device_bind_iommufd, token_uuid_ptr) as u32,
        iommufd: iommufd.as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: `bind` is the struct that the ioctl reads and fills.
    check(unsafe { ioctl_with_mut_ref(device, DEVICE_BIND_IOMMUFD, &mut bind) })?;
    Ok(bind.out_devid)
}

/// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`: from now on the device's DMA goes through the IOAS.
pub(crate) fn attach(device: &File, ioas: u32) -> io::Result<()> {
    let mut attach = vfio_device_attach_iommufd_pt {
        argsz: offset_of!(vfio_device_attach_iommufd_pt, pasid) as u32,
        pt_id: ioas,
        ..Default::default()
    };
    // SAFETY: `attach` is the struct that the ioctl reads and fills.
    check(unsafe { ioctl_with_mut_ref(device, DEVICE_ATTACH_IOMMUFD_PT, &mut attach) })
}

/// `VFIO_DEVICE_DETACH_IOMMUFD_PT`: no DMA of the device from now on.
pub(crate) fn detach(device: &File) -> io::Result<()> {
    let argsz = offset_of!(vfio_device_detach_iommufd_pt, pasid) as u32;
    let detach = vfio_device_detach_iommufd_pt { argsz, ..Default::default() };
    // SAFETY: the ioctl reads one struct.
    check(unsafe { ioctl_with_ref(device, DEVICE_DETACH_IOMMUFD_PT, &detach) })
}

/// `VFIO_DEVICE_FEATURE_DMA_BUF`, probed: whether BARs of the (open) device can be had as dma-bufs.
pub(crate) fn offers_dma_buf(device: &File) -> bool {
    let feature = [
        size_of::<vfio_device_feature>() as u32,
        VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF,
    ];
    // SAFETY: the array is a vfio_device_feature without data.
    check(unsafe { ioctl_with_ptr(device, DEVICE_FEATURE, feature.as_ptr()) }).is_ok()
}

/// `VFIO_DEVICE_FEATURE_DMA_BUF`: a part of BAR `index` as a dma-buf. Offset and size in bytes, multiples of a page.
pub(crate) fn dma_buf(device: &File, index: u32, offset: u64, size: u64) -> io::Result<File> {
    let words = |long: u64| [long as u32, (long >> 32) as u32];
    let argsz = size_of::<vfio_device_feature>()
        + size_of::<vfio_device_feature_dma_buf>()
        + size_of::<vfio_region_dma_range>();
    let flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
    let open_flags = (libc::O_RDWR | libc::O_CLOEXEC) as u32;
    let head = [argsz as u32, flags, index, open_flags, 0, 1];
    let feature: Vec<u32> = head.into_iter().chain(words(offset)).chain(words(size)).collect();
    // SAFETY: the buffer is a vfio_device_feature with the feature's struct and one range as data, `argsz` bytes.
    let fd = unsafe { ioctl_with_ptr(device, DEVICE_FEATURE, feature.as_ptr()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for us; nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// `IOMMU_IOAS_ALLOC`: a new I/O address space. Returns its id.
pub(crate) fn ioas_alloc(iommufd: &File) -> io::Result<u32> {
    let mut alloc = iommu_ioas_alloc { size: size_of::<iommu_ioas_alloc>() as u32, ..Default::default() };
    // SAFETY: `alloc` is the struct that the ioctl reads and fills.
    check(unsafe { ioctl_with_mut_ref(iommufd, IOAS_ALLOC, &mut alloc) })?;
    Ok(alloc.out_ioas_id)
}

/// `IOMMU_DESTROY`. EBUSY while something is attached to it.
pub(crate) fn destroy(iommufd: &File, id: u32) -> io::Result<()> {
    let destroy = iommu_destroy { size: size_of::<iommu_destroy>() as u32, id };
    // SAFETY: the ioctl reads one struct.
    check(unsafe { ioctl_with_ref(iommufd, DESTROY, &destroy) })
}

/// `IOMMU_OPTION_RLIMIT_MODE`: counts pinned pages by process, as containers do. Needs CAP_SYS_RESOURCE, and comes
/// before anything else.
pub(crate) fn count_by_process(iommufd: &File) -> io::Result<()> {
    rlimit_mode(iommufd, iommufd_option_ops_IOMMU_OPTION_OP_SET, 1).map(drop)
}

/// Whether pinned pages are counted by process, else by user.
pub(crate) fn counts_by_process(iommufd: &File) -> io::Result<bool> {
    Ok(rlimit_mode(iommufd, iommufd_option_ops_IOMMU_OPTION_OP_GET, 0)? != 0)
}

fn rlimit_mode(iommufd: &File, operation: u32, value: u64) -> io::Result<u64> {
    let mut option = iommu_option {
        size: size_of::<iommu_option>() as u32,
        option_id: iommufd_option_IOMMU_OPTION_RLIMIT_MODE,
        op: operation as u16,
        val64: value,
        ..Default::default()
    };
    // SAFETY: `option` is the struct that the ioctl reads and fills.
    check(unsafe { ioctl_with_mut_ref(iommufd, OPTION, &mut option) })?;
    Ok(option.val64)
}

/// `IOMMU_IOAS_IOVA_RANGES`: what can be mapped, ascending, for all that is attached.
pub(crate) fn iova_ranges(iommufd: &File, ioas: u32) -> io::Result<Vec<RangeInclusive<u64>>> {
    let mut room = 16;
    loop {
        let mut ranges = vec![iommu_iova_range::default(); room];
        let mut query = iommu_ioas_iova_ranges {
            size: size_of::<iommu_ioas_iova_ranges>() as u32,
            ioas_id: ioas,
            num_iovas: room as u32,
            allowed_iovas: ranges.as_mut_ptr() as u64,
            ..Default::default()
        };
        // SAFETY: `query` is the struct that the ioctl reads and fills, and points to an array of `num_iovas` ranges.
        let result = check(unsafe { ioctl_with_mut_ref(iommufd, IOAS_IOVA_RANGES, &mut query) });
        let wanted = query.num_iovas as usize;
        match result {
            Ok(()) => {
                ranges.truncate(wanted);
                return Ok(ranges.into_iter().map(|range| range.start..=range.last).collect());
            }
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                if wanted <= room || wanted > MAX_RANGES {
                    return Err(io::Error::other(format!("the kernel speaks of {wanted} ranges")));
                }
                room = wanted;
            }
            Err(error) => return Err(error),
        }
    }
}

/// `IOMMU_IOAS_MAP`: memory of this process.
pub(crate) fn map(
    iommufd: &File,
    ioas: u32,
    iova: u64,
    size: u64,
    hva: u64,
    access: Access,
) -> io::Result<()> {
    let mut map = iommu_ioas_map {
        size: size_of::<iommu_ioas_map>() as u32,
        flags: fixed(access),
        ioas_id: ioas,
        user_va: hva,
        length: size,
        iova,
        ..Default::default()
    };
    // SAFETY: `map` is the struct that the ioctl reads and fills. The pages behind `hva` are pinned by the kernel, and
    // what devices then write there is guest memory, which this process only ever accesses as volatile.
    check(unsafe { ioctl_with_mut_ref(iommufd, IOAS_MAP, &mut map) })
}

/// `IOMMU_IOAS_MAP_FILE` (Linux 6.13): a part of a memfd or dma-buf from `offset` on.
pub(crate) fn map_file(
    iommufd: &File,
    ioas: u32,
    iova: u64,
    size: u64,
    (file, offset): (RawFd, u64),
    access: Access,
) -> io::Result<()> {
    let mut map = iommu_ioas_map_file {
        size: size_of::<iommu_ioas_map_file>() as u32,
        flags: fixed(access),
        ioas_id: ioas,
        fd: file,
        start: offset,
        length: size,
        iova,
    };
    // SAFETY: `map` is the struct that the ioctl reads and fills; as for `map`, the memory is the guest's.
    check(unsafe { ioctl_with_mut_ref(iommufd, IOAS_MAP_FILE, &mut map) })
}

/// `IOMMU_IOAS_UNMAP`. Returns how many bytes were unmapped.
pub(crate) fn unmap(iommufd: &File, ioas: u32, iova: u64, size: u64) -> io::Result<u64> {
    let mut unmap =
        iommu_ioas_unmap { size: size_of::<iommu_ioas_unmap>() as u32, ioas_id: ioas, iova, length: size };
    // SAFETY: `unmap` is the struct that the ioctl reads and fills.
    check(unsafe { ioctl_with_mut_ref(iommufd, IOAS_UNMAP, &mut unmap) })?;
    Ok(unmap.length)
}
