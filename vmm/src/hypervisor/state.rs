//! A vCPU's state as it was when the machine was built, to go back to when the guest reboots.
//!
//! # Unsafe
//! `KVM_SET_XSAVE` reads a buffer whose size depends on what the process asked for.
#![expect(unsafe_code, reason = "KVM_SET_XSAVE is unsafe in kvm-ioctls")]

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events,
    kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;

use super::KvmError;

/// Memory types without firmware: MTRRs on, write-back by default (Intel SDM vol. 3, 12.11.2.1). Matters when
/// a device with non-coherent DMA makes KVM honour them: the reset value makes all memory uncached.
const MTRR_DEFAULT_TYPE: kvm_msr_entry = msr(0x2ff, 0x806);
/// IA32_MISC_ENABLE with fast string operations, as firmware leaves it.
const MISC_ENABLE: kvm_msr_entry = msr(0x1a0, 1);
/// IA32_TSC keeps counting over a reset: writing it would set the vCPUs apart.
pub(super) const TSC: u32 = 0x10;
const TSC_ADJUST: u32 = 0x3b;

const fn msr(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry { index, data, reserved: 0 }
}

/// All of a vCPU but its CPUID, which no reset changes.
pub(super) struct VcpuState {
    regs: kvm_regs,
    pub(super) sregs: kvm_sregs,
    xsave: Box<kvm_xsave>,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    mp: kvm_mp_state,
    events: kvm_vcpu_events,
    msrs: Vec<kvm_msr_entry>,
}

impl VcpuState {
    /// Brings a new vCPU to its power-on state and reads that.
    pub(super) fn power_on(fd: &VcpuFd, indices: &[u32]) -> Result<Self, KvmError> {
        for entry in [MTRR_DEFAULT_TYPE, MISC_ENABLE] {
            set_msr(fd, entry)?;
        }
        Ok(Self {
            regs: fd.get_regs().map_err(KvmError::of("KVM_GET_REGS"))?,
            sregs: fd.get_sregs().map_err(KvmError::of("KVM_GET_SREGS"))?,
            xsave: Box::new(fd.get_xsave().map_err(KvmError::of("KVM_GET_XSAVE"))?),
            xcrs: fd.get_xcrs().map_err(KvmError::of("KVM_GET_XCRS"))?,
            debug: fd.get_debug_regs().map_err(KvmError::of("KVM_GET_DEBUGREGS"))?,
            lapic: fd.get_lapic().map_err(KvmError::of("KVM_GET_LAPIC"))?,
            mp: fd.get_mp_state().map_err(KvmError::of("KVM_GET_MP_STATE"))?,
            events: fd.get_vcpu_events().map_err(KvmError::of("KVM_GET_VCPU_EVENTS"))?,
            msrs: get_msrs(fd, indices),
        })
    }

    /// Puts the vCPU back into this state.
    pub(super) fn restore(&self, fd: &VcpuFd) -> Result<(), KvmError> {
        fd.set_mp_state(self.mp).map_err(KvmError::of("KVM_SET_MP_STATE"))?;
        fd.set_sregs(&self.sregs).map_err(KvmError::of("KVM_SET_SREGS"))?;
        fd.set_regs(&self.regs).map_err(KvmError::of("KVM_SET_REGS"))?;
        // SAFETY: the buffer is the 4 KiB that KVM reads unless the process asked the kernel for larger
        // dynamic features (arch_prctl ARCH_REQ_XCOMP_GUEST_PERM), which it never does.
        unsafe { fd.set_xsave(&self.xsave) }.map_err(KvmError::of("KVM_SET_XSAVE"))?;
        // A CPU without XSAVE has none, and KVM then refuses to set none.
        if self.xcrs.nr_xcrs > 0 {
            fd.set_xcrs(&self.xcrs).map_err(KvmError::of("KVM_SET_XCRS"))?;
        }
        fd.set_debug_regs(&self.debug).map_err(KvmError::of("KVM_SET_DEBUGREGS"))?;
        fd.set_lapic(&self.lapic).map_err(KvmError::of("KVM_SET_LAPIC"))?;
        fd.set_vcpu_events(&self.events).map_err(KvmError::of("KVM_SET_VCPU_EVENTS"))?;
        for entry in &self.msrs {
            // KVM lists MSRs that can be read and not written back; those hold no guest state.
            if let Err(error) = set_msr(fd, *entry) {
                tracing::debug!(msr = format_args!("{:#x}", entry.index), %error, "MSR not restored");
            }
        }
        Ok(())
    }
}

/// All of them that can be read and that a reset sets back. KVM stops at the first that cannot be read.
fn get_msrs(fd: &VcpuFd, indices: &[u32]) -> Vec<kvm_msr_entry> {
    let asked: Vec<_> = indices
        .iter()
        .filter(|index| ![TSC, TSC_ADJUST].contains(index))
        .map(|index| msr(*index, 0))
        .collect();
    let (mut all, mut rest) = (Vec::new(), asked.as_slice());
    while let Ok(mut msrs) = Msrs::from_entries(rest)
        && !rest.is_empty()
    {
        let read = fd.get_msrs(&mut msrs).unwrap_or(0);
        all.extend(msrs.as_slice().iter().take(read));
        rest = rest.get(read + 1..).unwrap_or_default();
    }
    all
}

pub(super) fn get_msr(fd: &VcpuFd, index: u32) -> Option<kvm_msr_entry> {
    let mut msrs = Msrs::from_entries(&[msr(index, 0)]).ok()?;
    match fd.get_msrs(&mut msrs) {
        Ok(1) => msrs.as_slice().first().copied(),
        _ => None,
    }
}

fn set_msr(fd: &VcpuFd, entry: kvm_msr_entry) -> Result<(), KvmError> {
    let refused = |error| KvmError::of(format!("KVM_SET_MSRS {:#x}", entry.index))(error);
    let msrs = Msrs::from_entries(&[entry]).map_err(|_| refused(kvm_ioctls::Error::new(libc::ENOMEM)))?;
    match fd.set_msrs(&msrs).map_err(refused)? {
        1 => Ok(()),
        _ => Err(refused(kvm_ioctls::Error::new(libc::EINVAL))),
    }
}
