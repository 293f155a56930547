use super::*;

fn supported(leaves: &[(u32, u32)]) -> CpuId {
    let entries: Vec<kvm_cpuid_entry2> = leaves
        .iter()
        .map(|(function, index)| kvm_cpuid_entry2 {
            function: *function,
            index: *index,
            ..Default::default()
        })
        .collect();
    CpuId::from_entries(&entries).unwrap()
}

fn leaf(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
    *cpuid.as_slice().iter().find(|e| e.function == function && e.index == index).unwrap()
}

const TWO: Features = Features { cpus: 2, tsc_deadline: true, extended_destinations: false };

#[test]
fn every_vcpu_has_its_own_apic_id() {
    let supported = supported(&[(1, 0), (0xb, 0), (0xb, 1), (0x8000_001e, 0)]);
    for index in 0..2 {
        let cpuid = for_vcpu(&supported, index, &TWO);
        assert_eq!(leaf(&cpuid, 1, 0).ebx >> 24, index);
        assert_eq!(leaf(&cpuid, 0xb, 0).edx, index);
        assert_eq!(leaf(&cpuid, 0x8000_001e, 0).eax, index);
    }
}

#[test]
fn topology_is_one_thread_a_core_and_one_package() {
    let cpuid = for_vcpu(&supported(&[(0xb, 0), (0xb, 1), (0xb, 2)]), 0, &Features { cpus: 6, ..TWO });
    assert_eq!((leaf(&cpuid, 0xb, 0).eax, leaf(&cpuid, 0xb, 0).ebx), (0, 1));
    assert_eq!((leaf(&cpuid, 0xb, 1).eax, leaf(&cpuid, 0xb, 1).ebx), (3, 6));
    assert_eq!(leaf(&cpuid, 0xb, 2).ebx, 0);
}

#[test]
fn a_single_cpu_is_not_called_hyperthreaded() {
    let one = Features { cpus: 1, tsc_deadline: false, extended_destinations: false };
    let cpuid = for_vcpu(&supported(&[(1, 0)]), 0, &one);
    let entry = leaf(&cpuid, 1, 0);
    assert_eq!(entry.edx & HTT, 0);
    assert_eq!(entry.ecx & TSC_DEADLINE, 0);
    assert_ne!(entry.ecx & X2APIC, 0);
}

#[test]
fn address_width_has_a_floor_when_the_cpu_is_silent() {
    assert_eq!(phys_bits(&supported(&[(1, 0)])), DEFAULT_PHYS_BITS);
}
