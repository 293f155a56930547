//! The guest's clocks, stopped while it is paused: kvmclock (KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_KVMCLOCK_CTRL in
//! Documentation/virt/kvm/api.rst) and the time-stamp counters (KVM_VCPU_TSC_OFFSET in
//! Documentation/virt/kvm/devices/vcpu.rst, since Linux 5.16; before that they run on).
//!
//! # Unsafe
//! The ioctls on a vCPU's device attributes are not in kvm-ioctls for x86_64.
#![expect(unsafe_code, reason = "KVM_GET_DEVICE_ATTR and KVM_SET_DEVICE_ATTR on a vCPU")]

use std::io;

use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, kvm_clock_data, kvm_device_attr};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl_with_ref;

use super::KvmError;
use super::state::{TSC, get_msr};
use super::sys::{KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR};
use super::vcpu::Vcpu;
use super::vm::Vm;

/// Clocks that stand still.
#[derive(Debug)]
pub struct StoppedClock {
    /// Nanoseconds.
    kvmclock: u64,
    /// The first vCPU's counter, in its own ticks.
    tsc: Option<u64>,
}

impl StoppedClock {
    /// Remembers what the clocks of a machine show whose vCPUs have stopped, and has the guest told that it was
    /// stopped, so that its watchdogs do not take the time for a lockup.
    pub fn stop(vm: &Vm, vcpus: &[Vcpu]) -> Result<Self, KvmError> {
        let kvmclock = vm.fd().get_clock().map_err(KvmError::of("KVM_GET_CLOCK"))?.clock;
        let tsc = vcpus.first().and_then(|vcpu| guest_tsc(vcpu.fd()));
        for vcpu in vcpus {
            // EINVAL: this vCPU's kvmclock is not in use.
            if let Err(error) = vcpu.fd().kvmclock_ctrl()
                && error.errno() != libc::EINVAL
            {
                return Err(KvmError::of("KVM_KVMCLOCK_CTRL")(error));
            }
        }
        Ok(Self { kvmclock, tsc })
    }

    /// Lets the clocks go on from there. The counters come first: KVM derives what kvmclock shows from them.
    pub fn go_on(&self, vm: &Vm, vcpus: &[Vcpu]) -> Result<(), KvmError> {
        if let (Some(then), Some(now)) = (self.tsc, vcpus.first().and_then(|vcpu| guest_tsc(vcpu.fd()))) {
            // The same for all: what sets them apart stays.
            let elapsed = now.wrapping_sub(then);
            for vcpu in vcpus {
                if let Err(error) = set_back(vcpu.fd(), elapsed) {
                    tracing::debug!(%error, "the time-stamp counter ran on while the guest was paused");
                }
            }
        }
        let clock = kvm_clock_data { clock: self.kvmclock, ..Default::default() };
        vm.fd().set_clock(&clock).map_err(KvmError::of("KVM_SET_CLOCK"))
    }
}

fn guest_tsc(vcpu: &VcpuFd) -> Option<u64> {
    get_msr(vcpu, TSC).map(|entry| entry.data)
}

fn set_back(vcpu: &VcpuFd, ticks: u64) -> io::Result<()> {
    let mut offset = 0_u64;
    let attribute = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: (&raw mut offset) as u64,
        flags: 0,
    };
    // SAFETY: the kernel writes the 8 bytes at `addr`, which live through the call.
    if unsafe { ioctl_with_ref(vcpu, KVM_GET_DEVICE_ATTR(), &attribute) } != 0 {
        return Err(io::Error::last_os_error());
    }
    offset = offset.wrapping_sub(ticks);
    let attribute = kvm_device_attr { addr: (&raw const offset) as u64, ..attribute };
    // SAFETY: the kernel reads the 8 bytes at `addr`, which live through the call.
    if unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attribute) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
