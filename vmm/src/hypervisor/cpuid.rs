//! What the guest's CPUID says: KVM's supported features, with the topology of this machine written in.
//!
//! One package, one thread a core, APIC id = vCPU index. Leaves as in Intel SDM vol. 2A (CPUID) and AMD APM
//! vol. 3 appendix E; KVM's own leaves as in Documentation/virt/kvm/x86/cpuid.rst.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

const LEAF_FEATURES: u32 = 0x1;
const LEAF_CACHES: u32 = 0x4;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_TOPOLOGY_V2: u32 = 0x1f;
const LEAF_KVM_FEATURES: u32 = 0x4000_0001;
const LEAF_AMD_FEATURES: u32 = 0x8000_0001;
const LEAF_ADDRESS_SIZES: u32 = 0x8000_0008;
const LEAF_AMD_CACHES: u32 = 0x8000_001d;
const LEAF_AMD_TOPOLOGY: u32 = 0x8000_001e;

/// Leaf 1 ECX.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX.
const HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001 ECX.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaf 0x4000_0001 EAX: MSI messages may carry a 15-bit destination id.
const KVM_FEATURE_MSI_EXT_DEST_ID: u32 = 1 << 15;

/// x86's smallest architectural width, for CPUs that do not say.
const DEFAULT_PHYS_BITS: u8 = 36;

/// What this machine wants of its CPUID.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Number of vCPUs.
    pub cpus: u32,
    /// KVM emulates the TSC deadline timer.
    pub tsc_deadline: bool,
    /// APIC ids above 255 are reachable from MSI messages.
    pub extended_destinations: bool,
}

/// The width of a guest physical address.
pub fn phys_bits(supported: &CpuId) -> u8 {
    supported
        .as_slice()
        .iter()
        .find(|entry| entry.function == LEAF_ADDRESS_SIZES)
        .map_or(DEFAULT_PHYS_BITS, |entry| (entry.eax & 0xff) as u8)
}

/// The CPUID of vCPU `index`.
pub fn for_vcpu(supported: &CpuId, index: u32, features: &Features) -> CpuId {
    let mut cpuid = supported.clone();
    for entry in cpuid.as_mut_slice() {
        adapt(entry, index, features);
    }
    cpuid
}

fn adapt(entry: &mut kvm_cpuid_entry2, index: u32, features: &Features) {
    let cpus = features.cpus;
    // Wide enough for the largest id; one package, so every id fits below it.
    let id_bits = u32::BITS - (cpus - 1).leading_zeros();
    match entry.function {
        LEAF_FEATURES => {
            entry.ebx = (entry.ebx & 0xffff) | (cpus.min(0xff) << 16) | ((index & 0xff) << 24);
            entry.ecx |= X2APIC | HYPERVISOR;
            set(&mut entry.ecx, TSC_DEADLINE, features.tsc_deadline);
            set(&mut entry.edx, HTT, cpus > 1);
        }
        LEAF_CACHES if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 0x7;
            // Level 1 and 2 are private to a core, the rest is shared by the package.
            let sharing = if level <= 2 { 0 } else { cpus - 1 };
            entry.eax = (entry.eax & 0x3fff) | (sharing.min(0xfff) << 14) | ((cpus - 1).min(0x3f) << 26);
        }
        LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2 => {
            entry.flags |= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
            (entry.eax, entry.ebx, entry.ecx) = match entry.index {
                0 => (0, 1, 1 << 8),
                1 => (id_bits, cpus, 1 | 2 << 8),
                subleaf => (0, 0, subleaf),
            };
            entry.edx = index;
        }
        LEAF_KVM_FEATURES => set(&mut entry.eax, KVM_FEATURE_MSI_EXT_DEST_ID, features.extended_destinations),
        LEAF_AMD_FEATURES if cpus == 1 => set(&mut entry.ecx, CMP_LEGACY, false),
        LEAF_ADDRESS_SIZES => {
            entry.ecx = (entry.ecx & !0xf0ff) | (cpus - 1).min(0xff) | (id_bits.min(0xf) << 12);
        }
        LEAF_AMD_CACHES if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 0x7;
            let sharing = if level <= 2 { 0 } else { cpus - 1 };
            entry.eax = (entry.eax & 0x3fff) | (sharing.min(0xfff) << 14);
        }
        LEAF_AMD_TOPOLOGY => {
            entry.eax = index;
            entry.ebx = index & 0xff;
            entry.ecx = 0;
        }
        _ => {}
    }
}

fn set(register: &mut u32, bits: u32, on: bool) {
    *register = if on { *register | bits } else { *register & !bits };
}

#[cfg(test)]
#[path = "cpuid_test.rs"]
mod tests;
