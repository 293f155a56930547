//! Hot reset of PCI devices (linux/vfio.h): which functions share a slot or bus, and resetting all of them at once.
//!
//! # Unsafe
//!
//! Each ioctl passes a buffer that lives through the call and is as long as the `argsz` it announces.
#![expect(unsafe_code, reason = "ioctls")]

use std::ffi::c_ulong;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;

use vfio_bindings::bindings::vfio::{vfio_pci_dependent_device, vfio_pci_hot_reset, vfio_pci_hot_reset_info};
use vmm_sys_util::ioctl::ioctl_with_ptr;

use super::{check, number};

const _: () = {
    assert!(size_of::<vfio_pci_hot_reset_info>() == 12 && size_of::<vfio_pci_hot_reset>() == 12);
    assert!(size_of::<vfio_pci_dependent_device>() == 8);
};

const GET_PCI_HOT_RESET_INFO: c_ulong = number(12);
const PCI_HOT_RESET: c_ulong = number(13);

/// How many functions there is room for: those of a bus, then those of all buses of a segment.
const ROOM: [usize; 2] = [256, 65536];

/// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`, the functions included, as the kernel lays it out.
pub(crate) fn hot_reset_info(device: &File) -> io::Result<Vec<u8>> {
    let mut result = Err(io::ErrorKind::InvalidInput.into());
    for functions in ROOM {
        let size = size_of::<vfio_pci_hot_reset_info>() + functions * size_of::<vfio_pci_dependent_device>();
        let mut buffer = vec![0u32; size / 4];
        if let Some(argsz) = buffer.first_mut() {
            *argsz = size as u32;
        }
        // SAFETY: the buffer is a vfio_pci_hot_reset_info with room for its functions, `argsz` bytes, and writable.
        result = check(unsafe { ioctl_with_ptr(device, GET_PCI_HOT_RESET_INFO, buffer.as_mut_ptr()) })
            .map(|()| buffer.into_iter().flat_map(u32::to_ne_bytes).collect());
        if !matches!(&result, Err(error) if error.raw_os_error() == Some(libc::ENOSPC)) {
            break;
        }
    }
    result
}

/// `VFIO_DEVICE_PCI_HOT_RESET`. `groups` are those of all functions affected, none for a device opened by its cdev.
pub(crate) fn hot_reset(device: &File, groups: &[RawFd]) -> io::Result<()> {
    let argsz = size_of::<vfio_pci_hot_reset>() + size_of_val(groups);
    let head = [argsz as u32, 0, groups.len() as u32];
    let buffer: Vec<u32> = head.into_iter().chain(groups.iter().map(|fd| *fd as u32)).collect();
    // SAFETY: the buffer is a vfio_pci_hot_reset and its descriptors, `argsz` bytes.
    check(unsafe { ioctl_with_ptr(device, PCI_HOT_RESET, buffer.as_ptr()) })
}
