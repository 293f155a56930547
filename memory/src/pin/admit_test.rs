use miette::Diagnostic;

use super::*;
use crate::bytes::GIB;

fn host() -> HostMemory {
    let meminfo = Meminfo {
        total: 16 * GIB,
        free: 12 * GIB,
        available: 13 * GIB,
        swap_free: 2 * GIB,
        cma_total: 4 * GIB,
        cma_free: 4 * GIB,
    };
    HostMemory { meminfo, movable_free: GIB, memlock: Memlock { limit: None }, cgroup: None }
}

#[test]
fn what_fits_is_admitted() {
    assert!(host().admit(7 * GIB).is_empty());
    let limited = HostMemory { memlock: Memlock { limit: Some(7 * GIB) }, ..host() };
    assert!(limited.admit(7 * GIB).is_empty());
}

#[test]
fn cma_and_movable_memory_does_not_count() {
    let [error] = &host().admit(8 * GIB)[..] else { panic!() };
    assert_eq!(
        error.to_string(),
        "pinning the guest needs 8224 MiB, the host has 8 GiB (free CMA 4 GiB and ZONE_MOVABLE 1 GiB cannot be pinned)"
    );
}

#[test]
fn the_limit_of_the_cgroup_counts() {
    let within = |limit, free| HostMemory {
        cgroup: Some(Cgroup { path: "/guests".to_owned(), limit: limit * GIB, free: free * GIB }),
        ..host()
    };
    assert!(within(5, 5).admit(4 * GIB).is_empty());
    let [error] = &within(5, 3).admit(4 * GIB)[..] else { panic!() };
    assert_eq!(
        error.to_string(),
        "pinning the guest needs 4112 MiB, the memory limit of cgroup /guests is 5 GiB, 3 GiB of it free"
    );
    assert!(error.may_pass() && !within(4, 4).admit(4 * GIB)[0].may_pass());
    assert_eq!((within(5, 3).pinnable(), within(50, 30).pinnable()), (3 * GIB, 8 * GIB));
    assert_eq!(within(5, 3).admit(9 * GIB).len(), 2);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let limited = HostMemory { memlock: Memlock { limit: Some(8 * MIB) }, ..host() };
    let errors = limited.admit(20 * GIB);
    let [AdmitError::ExceedsHost { .. }, AdmitError::MemlockTooLow { need, have }] = errors[..] else {
        panic!("{errors:?}")
    };
    assert_eq!((need, have), (20 * GIB, 8 * MIB));
    assert_eq!(errors[0].to_string(), "guest memory of 20 GiB exceeds the host's 16 GiB");
    assert_eq!(errors[1].to_string(), "pinning the guest needs a memlock limit of 20 GiB, it is 8 MiB");
    assert!(errors[1].help().unwrap().to_string().contains("ulimit -l 20971520"));
}

#[test]
fn unpinned_memory_may_be_swapped() {
    let Meminfo { total, swap_free, .. } = host().meminfo;
    assert!(exceeded(17 * GIB, total + swap_free).is_none());
    assert!(exceeded(19 * GIB, total + swap_free).is_some());
}

#[test]
fn figures_that_contradict_each_other_do_not_wrap() {
    let mut host = host();
    host.movable_free = u64::MAX;
    assert_eq!(host.admit(u64::MAX).len(), 1);
    assert_eq!(host.admit(GIB).len(), 1);
}

#[test]
fn memory_that_is_being_freed_is_waited_for() {
    let reads = |bytes: u64, available: Vec<u64>| {
        let mut left = available.into_iter();
        move || {
            let mut host = host();
            host.meminfo.available = left.next().unwrap() * GIB;
            Look::at(&host, bytes)
        }
    };
    assert!(patient(reads(7 * GIB, vec![9, 11, 13]), |_| true).is_empty());
    // No longer freed, or for too long.
    let calls = std::cell::Cell::new(0);
    assert_eq!(
        patient(reads(7 * GIB, vec![9, 11, 11]), |freeing| freeing || calls.replace(calls.get() + 1) == 0)
            .len(),
        1
    );
    assert_eq!(patient(reads(7 * GIB, vec![9]), |_| false).len(), 1);
    assert_eq!(patient(reads(100 * GIB, vec![9]), |_| panic!()).len(), 1);
}

#[test]
fn this_host() {
    assert!(admit_unpinned(16 * MIB, Backing::Pages).is_empty());
    assert!(matches!(admit(1 << 60, Backing::Pages)[..], [AdmitError::ExceedsHost { .. }, ..]));
}
