use super::*;
use crate::Role;

#[test]
fn a_role_may_what_it_starts_may() {
    assert!(Role::Main.may(Role::Device) && Role::Vcpu.may(Role::Device) && Role::Api.may(Role::Api));
    assert!(!Role::Device.may(Role::Vcpu) && !Role::Api.may(Role::Device) && !Role::Vcpu.may(Role::Main));
    let (vcpu, device) = (rules(Role::Vcpu).unwrap(), rules(Role::Device).unwrap());
    assert!(device.keys().all(|call| vcpu.contains_key(call)));
}

#[test]
fn nobody_who_serves_a_guest_opens_files_or_executes() {
    for role in [Role::Vcpu, Role::Device, Role::Events] {
        let rules = rules(role).unwrap();
        for call in [
            libc::SYS_open,
            libc::SYS_creat,
            libc::SYS_execve,
            libc::SYS_kill,
            libc::SYS_mkdir,
            libc::SYS_unlink,
        ] {
            assert!(!rules.contains_key(&call), "{role:?} {}", crate::names::name(call as usize));
        }
    }
}

#[test]
fn the_kernel_takes_all_filters_and_they_stay_small() {
    for role in Role::ALL {
        // The kernel's limit is 4096 instructions (BPF_MAXINSNS), for each filter.
        let length = of(role).unwrap().len();
        assert!((10..1000).contains(&length), "{role:?} has {length}");
    }
}
