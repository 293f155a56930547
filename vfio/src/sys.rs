//! The VFIO kernel interface (linux/vfio.h): ioctl numbers and one thin function per ioctl, each returning the errno.
//!
//! # Unsafe
//!
//! Every ioctl here passes memory that lives through the call and is as long as the `argsz` it announces. The kernel
//! writes no further than that.
#![expect(unsafe_code, reason = "ioctls")]

pub(crate) mod iommufd;
pub(crate) mod reset;

use std::ffi::{CStr, c_int, c_ulong};
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use devices::virtio::iommu::Access;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_UNMAP_FLAG_ALL, VFIO_TYPE,
    vfio_device_info, vfio_group_status, vfio_info_cap_header, vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap, vfio_iommu_type1_info, vfio_iova_range, vfio_irq_info, vfio_irq_set,
    vfio_region_info, vfio_region_sparse_mmap_area,
};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ref, ioctl_with_ptr, ioctl_with_ref, ioctl_with_val};

const _: () = {
    assert!(size_of::<vfio_group_status>() == 8);
    assert!(size_of::<vfio_iommu_type1_info>() == 24 && offset_of!(vfio_iommu_type1_info, iova_pgsizes) == 8);
    assert!(size_of::<vfio_info_cap_header>() == 8 && size_of::<vfio_iova_range>() == 16);
    assert!(size_of::<vfio_iommu_type1_dma_map>() == 32 && size_of::<vfio_iommu_type1_dma_unmap>() == 24);
    assert!(size_of::<vfio_device_info>() == 24);
    assert!(size_of::<vfio_region_info>() == 32 && offset_of!(vfio_region_info, index) == 8);
    assert!(size_of::<vfio_region_sparse_mmap_area>() == 16);
    assert!(size_of::<vfio_irq_info>() == 16 && size_of::<vfio_irq_set>() == 20);
};

const fn number(offset: u32) -> c_ulong {
    // _IO(';', 100 + offset): all of VFIO is without direction and size.
    ((VFIO_TYPE as u32) << 8 | (VFIO_BASE + offset)) as c_ulong
}

const SET_IOMMU: c_ulong = number(2);
const GROUP_GET_STATUS: c_ulong = number(3);
const GROUP_SET_CONTAINER: c_ulong = number(4);
const GROUP_UNSET_CONTAINER: c_ulong = number(5);
const GROUP_GET_DEVICE_FD: c_ulong = number(6);
const DEVICE_GET_INFO: c_ulong = number(7);
const DEVICE_GET_REGION_INFO: c_ulong = number(8);
const DEVICE_GET_IRQ_INFO: c_ulong = number(9);
const DEVICE_SET_IRQS: c_ulong = number(10);
const DEVICE_RESET: c_ulong = number(11);
const IOMMU_GET_INFO: c_ulong = number(12);
const IOMMU_MAP_DMA: c_ulong = number(13);
const IOMMU_UNMAP_DMA: c_ulong = number(14);

/// More than the kernel ever answers; a bound on what it can make us allocate.
const MAX_INFO: usize = 1 << 20;

fn check(result: c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        1.. => Err(io::Error::other(format!("the kernel offers only {result}"))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `VFIO_SET_IOMMU`: gives the container its IOMMU backend. Needs an attached group.
pub(crate) fn set_iommu(container: &impl AsRawFd, kind: u32) -> io::Result<()> {
    // SAFETY: passes a number.
    check(unsafe { ioctl_with_val(container, SET_IOMMU, kind.into()) })
}

/// `VFIO_GROUP_GET_STATUS`: the flags `VFIO_GROUP_FLAGS_*`.
pub(crate) fn group_status(group: &File) -> io::Result<u32> {
    let mut status = vfio_group_status { argsz: size_of::<vfio_group_status>() as u32, flags: 0 };
    // SAFETY: `status` is the struct that the ioctl fills.
    check(unsafe { ioctl_with_mut_ref(group, GROUP_GET_STATUS, &mut status) })?;
    Ok(status.flags)
}

/// `VFIO_GROUP_SET_CONTAINER`: attaches the group.
pub(crate) fn group_set_container(group: &File, container: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: the ioctl reads one int.
    check(unsafe { ioctl_with_ref(group, GROUP_SET_CONTAINER, &container.as_raw_fd()) })
}

/// `VFIO_GROUP_UNSET_CONTAINER`: detaches the group from its container.
pub(crate) fn group_unset_container(group: &File) -> io::Result<()> {
    // SAFETY: passes nothing.
    check(unsafe { ioctl(group, GROUP_UNSET_CONTAINER) })
}

/// `VFIO_GROUP_GET_DEVICE_FD`: opens the device called `name` (its address). The kernel resets it, if it can.
pub(crate) fn group_device(group: &File, name: &CStr) -> io::Result<File> {
    // SAFETY: the ioctl reads a string that ends in NUL.
    let fd = unsafe { ioctl_with_ptr(group, GROUP_GET_DEVICE_FD, name.as_ptr()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for us; nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// `VFIO_DEVICE_GET_INFO`.
pub(crate) fn device_info(device: &File) -> io::Result<vfio_device_info> {
    let mut info = vfio_device_info {
        argsz: size_of::<vfio_device_info>() as u32,
        flags: 0,
        num_regions: 0,
        num_irqs: 0,
        cap_offset: 0,
        pad: 0,
    };
    // SAFETY: `info` is the struct that the ioctl fills.
    check(unsafe { ioctl_with_mut_ref(device, DEVICE_GET_INFO, &mut info) })?;
    Ok(info)
}

/// `VFIO_DEVICE_GET_REGION_INFO` of region `index`, its capabilities included, as the kernel lays it out.
pub(crate) fn region_info(device: &File, index: u32) -> io::Result<Vec<u8>> {
    query(device, DEVICE_GET_REGION_INFO, size_of::<vfio_region_info>(), index)
}

/// `VFIO_DEVICE_GET_IRQ_INFO` of IRQ `index`.
pub(crate) fn irq_info(device: &File, index: u32) -> io::Result<vfio_irq_info> {
    let mut info = vfio_irq_info { argsz: size_of::<vfio_irq_info>() as u32, flags: 0, index, count: 0 };
    // SAFETY: `info` is the struct that the ioctl fills.
    check(unsafe { ioctl_with_mut_ref(device, DEVICE_GET_IRQ_INFO, &mut info) })?;
    Ok(info)
}

/// `VFIO_DEVICE_SET_IRQS` with eventfds (-1: none), or with no data when `fds` is empty.
pub(crate) fn set_irqs(
    device: &File,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    fds: &[RawFd],
) -> io::Result<()> {
    let argsz = size_of::<vfio_irq_set>() + size_of_val(fds);
    let head = [argsz as u32, flags, index, start, count];
    let buffer: Vec<u32> = head.into_iter().chain(fds.iter().map(|fd| *fd as u32)).collect();
    // SAFETY: the buffer is a vfio_irq_set and its data, `argsz` bytes.
    check(unsafe { ioctl_with_ptr(device, DEVICE_SET_IRQS, buffer.as_ptr()) })
}

/// `VFIO_DEVICE_RESET`.
pub(crate) fn device_reset(device: &File) -> io::Result<()> {
    // SAFETY: passes nothing.
    check(unsafe { ioctl(device, DEVICE_RESET) })
}

/// `VFIO_IOMMU_GET_INFO`, its capabilities included, as the kernel lays it out.
pub(crate) fn iommu_info(container: &impl AsRawFd) -> io::Result<Vec<u8>> {
    query(container, IOMMU_GET_INFO, size_of::<vfio_iommu_type1_info>(), 0)
}

/// `VFIO_IOMMU_MAP_DMA`.
pub(crate) fn map_dma(
    container: &impl AsRawFd,
    iova: u64,
    size: u64,
    hva: u64,
    access: Access,
) -> io::Result<()> {
    let read = if access.read { VFIO_DMA_MAP_FLAG_READ } else { 0 };
    let write = if access.write { VFIO_DMA_MAP_FLAG_WRITE } else { 0 };
    let map = vfio_iommu_type1_dma_map {
        argsz: size_of::<vfio_iommu_type1_dma_map>() as u32,
        flags: read | write,
        vaddr: hva,
        iova,
        size,
    };
    // SAFETY: the ioctl reads one struct. The pages behind `hva` are pinned by the kernel, and what devices then
    // write there is guest memory, which this process only ever accesses as volatile.
    check(unsafe { ioctl_with_ref(container, IOMMU_MAP_DMA, &map) })
}

/// `VFIO_IOMMU_UNMAP_DMA`. Returns how many bytes were unmapped.
pub(crate) fn unmap_dma(container: &impl AsRawFd, iova: u64, size: u64) -> io::Result<u64> {
    let mut unmap = vfio_iommu_type1_dma_unmap {
        argsz: size_of::<vfio_iommu_type1_dma_unmap>() as u32,
        flags: 0,
        iova,
        size,
        ..Default::default()
    };
    // SAFETY: `unmap` is the struct that the ioctl reads and fills.
    check(unsafe { ioctl_with_mut_ref(container, IOMMU_UNMAP_DMA, &mut unmap) })?;
    Ok(unmap.size)
}

/// `VFIO_IOMMU_UNMAP_DMA` of all there is (Linux 5.12).
pub(crate) fn unmap_all(container: &impl AsRawFd) -> io::Result<()> {
    let mut unmap = vfio_iommu_type1_dma_unmap {
        argsz: size_of::<vfio_iommu_type1_dma_unmap>() as u32,
        flags: VFIO_DMA_UNMAP_FLAG_ALL,
        ..Default::default()
    };
    // SAFETY: `unmap` is the struct that the ioctl reads and fills.
    check(unsafe { ioctl_with_mut_ref(container, IOMMU_UNMAP_DMA, &mut unmap) })
}

/// Asks with a struct of `head` bytes, then again with as much room as the kernel wants for capabilities. `index` is
/// written as the third word, where the structs that need one have it.
fn query(fd: &impl AsRawFd, request: c_ulong, head: usize, index: u32) -> io::Result<Vec<u8>> {
    let mut size = head;
    loop {
        // Words of 8 bytes, for the alignment of the kernel's structs.
        let mut buffer = vec![0u64; size.div_ceil(8)];
        if let Some(first) = buffer.first_mut() {
            *first = size as u64;
        }
        if let Some(second) = buffer.get_mut(1) {
            *second = index.into();
        }
        // SAFETY: the buffer is `argsz` bytes long and writable.
        check(unsafe { ioctl_with_ptr(fd, request, buffer.as_mut_ptr()) })?;
        let wanted = (buffer.first().copied().unwrap_or(0) as u32) as usize;
        if wanted <= size {
            let mut bytes: Vec<u8> = buffer.into_iter().flat_map(u64::to_ne_bytes).collect();
            bytes.truncate(size);
            return Ok(bytes);
        }
        if wanted > MAX_INFO {
            return Err(io::Error::other(format!("the kernel asks for {wanted} bytes")));
        }
        size = wanted;
    }
}
