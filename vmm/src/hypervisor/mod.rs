//! KVM: the one place that opens `/dev/kvm`. Follows Documentation/virt/kvm/api.rst.
//!
//! [`Hypervisor`] is the host's KVM, checked for what we need; [`vm::Vm`] one virtual machine; [`vcpu::Vcpu`]
//! one processor of it; [`interrupts::KvmInterrupts`] its interrupt routes; [`doorbells::KvmDoorbells`] its doorbells; [`clock::StoppedClock`] its clocks
//! while it is paused.

pub mod clock;
pub mod cpuid;
pub mod doorbells;
pub mod exits;
pub mod interrupts;
pub mod state;
mod sys;
pub mod vcpu;
pub mod vm;

use std::io;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, MsrList};
use kvm_ioctls::{Cap, Kvm};
use miette::Diagnostic;
use thiserror::Error;

/// Where KVM lives.
const DEVICE: &str = "/dev/kvm";
/// The only API version there ever was since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// The capabilities we cannot do without, by the name api.rst gives them.
const REQUIRED: [(Cap, &str); 11] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SplitIrqchip, "KVM_CAP_SPLIT_IRQCHIP"),
    (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// A KVM call that failed; most of these mean a defect of ours or an exhausted host.
#[derive(Debug, Error)]
#[error("{call} failed")]
pub struct KvmError {
    /// The ioctl, with what it was about.
    pub call: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl KvmError {
    /// For use in `map_err`: names the call.
    pub(crate) fn of(call: impl Into<String>) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        let call = call.into();
        move |error| Self { call, source: io::Error::from_raw_os_error(error.errno()) }
    }
}

/// Why the host's KVM cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum UnusableKvm {
    /// No such device.
    #[error("{DEVICE} does not exist")]
    #[diagnostic(help(
        "load the module (`modprobe kvm_intel` or `modprobe kvm_amd`); if that fails, enable virtualization in \
         the firmware setup, or nested virtualization on the outer hypervisor"
    ))]
    Absent,
    /// Not for this user.
    #[error("no permission to open {DEVICE}")]
    #[diagnostic(help(
        "run as root, or join the group that owns it: `usermod -aG kvm $USER`, then log in again"
    ))]
    Forbidden,
    /// Something else.
    #[error("cannot open {DEVICE}: {0}")]
    #[diagnostic(help("look at the kernel log (`dmesg | grep -i kvm`) for the reason"))]
    Open(#[source] io::Error),
    /// A KVM from before Linux 2.6.22, or not KVM at all.
    #[error("{DEVICE} speaks API version {0}, not {API_VERSION}")]
    #[diagnostic(help("check that {DEVICE} is KVM's device (character device 10:232)"))]
    Version(i32),
    /// A kernel too old, or built without.
    #[error("the host kernel's KVM lacks {0}")]
    #[diagnostic(help("run Linux 5.13 or newer with KVM built in full"))]
    Lacks(String),
    /// CPUID cannot be read.
    #[error("KVM does not tell which CPU features it supports")]
    #[diagnostic(help("look at the kernel log (`dmesg | grep -i kvm`) for the reason"))]
    Features(#[source] KvmError),
}

/// The host's KVM, known to have all that we need.
pub struct Hypervisor {
    kvm: Kvm,
    supported_cpuid: CpuId,
}

impl Hypervisor {
    /// Opens KVM and checks it.
    pub fn open() -> Result<Self, UnusableKvm> {
        let kvm = Kvm::new().map_err(|error| match error.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => UnusableKvm::Absent,
            libc::EACCES | libc::EPERM => UnusableKvm::Forbidden,
            errno => UnusableKvm::Open(io::Error::from_raw_os_error(errno)),
        })?;
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(UnusableKvm::Version(version));
        }
        let lacks: Vec<&str> =
            REQUIRED.iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|(_, name)| *name).collect();
        if !lacks.is_empty() {
            return Err(UnusableKvm::Lacks(lacks.join(", ")));
        }
        let supported_cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmError::of("KVM_GET_SUPPORTED_CPUID"))
            .map_err(UnusableKvm::Features)?;
        Ok(Self { kvm, supported_cpuid })
    }

    /// How many vCPUs a machine may have.
    pub fn max_vcpus(&self) -> u32 {
        u32::try_from(self.kvm.get_max_vcpus()).unwrap_or(u32::MAX)
    }

    /// Width of a guest physical address in bits, as the guest's CPUID says it.
    pub fn phys_bits(&self) -> u8 {
        cpuid::phys_bits(&self.supported_cpuid)
    }

    /// The CPU features KVM can give a guest.
    pub(crate) fn supported_cpuid(&self) -> &CpuId {
        &self.supported_cpuid
    }

    /// The MSRs that make up a vCPU's state.
    pub(crate) fn msr_indices(&self) -> Result<MsrList, KvmError> {
        self.kvm.get_msr_index_list().map_err(KvmError::of("KVM_GET_MSR_INDEX_LIST"))
    }

    /// Whether the local APIC timer has its TSC deadline mode.
    pub(crate) fn has_tsc_deadline_timer(&self) -> bool {
        self.kvm.check_extension(Cap::TscDeadlineTimer)
    }

    pub(crate) fn kvm(&self) -> &Kvm {
        &self.kvm
    }
}
