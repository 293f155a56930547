//! Kernel ABI that kvm-ioctls does not have on x86_64: device attributes of a vCPU (include/uapi/linux/kvm.h).

use kvm_bindings::{KVMIO, kvm_device_attr};
use vmm_sys_util::ioctl_iow_nr;

ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);
ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);

const _: () = assert!(size_of::<kvm_device_attr>() == 24);
