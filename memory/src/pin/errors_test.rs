use miette::Diagnostic;

use super::*;
use crate::residency::Basis;

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

#[test]
fn enomem_is_told_apart_by_what_moved() {
    let stuck = Vmstat { pgmigrate_fail: 3, ..Vmstat::default() };
    let huge = Vmstat { thp_migration_fail: 1, ..Vmstat::default() };
    let quiet = Vmstat { pgmigrate_success: 9, ..Vmstat::default() };
    let memlock = Memlock { limit: Some(8 << 20) };
    let cause = |grown, memlock| Cause::classify(&errno(libc::ENOMEM), grown, memlock, Some(1 << 30));
    assert_eq!(cause(Some(&stuck), None), Cause::Migration { pages: 3 });
    assert_eq!(cause(Some(&stuck), Some(memlock)), Cause::Migration { pages: 3 });
    assert_eq!(cause(Some(&huge), None), Cause::Migration { pages: 1 });
    assert_eq!(cause(Some(&quiet), Some(memlock)), Cause::Memlock(memlock));
    assert_eq!(cause(Some(&quiet), None), Cause::NoMemory);
    // Without counters it may be a page that did not move, which is worth another try.
    assert_eq!(cause(None, None), Cause::Migration { pages: 0 });
    assert_eq!(cause(None, Some(memlock)), Cause::Memlock(memlock));
    assert_eq!(Cause::classify(&errno(libc::ENOMEM), None, None, Some(1 << 20)), Cause::NoMemory);
    // Pages do not move either when there is nowhere to go.
    let starved = Cause::classify(&errno(libc::ENOMEM), Some(&stuck), None, Some(1 << 20));
    assert_eq!(starved, Cause::NoMemory);
}

#[test]
fn other_error_numbers_speak_for_themselves() {
    let stuck = Vmstat { pgmigrate_fail: 3, ..Vmstat::default() };
    let cause = |number| Cause::classify(&errno(number), Some(&stuck), None, None);
    let quiet = Cause::classify(&errno(libc::EFAULT), Some(&Vmstat::default()), None, None);
    // A pin that got somewhere before it was refused.
    assert_eq!((cause(libc::EFAULT), quiet), (Cause::Migration { pages: 3 }, Cause::Unbacked));
    assert_eq!(cause(libc::EINTR), Cause::Interrupted);
    assert_eq!(cause(libc::EAGAIN), Cause::Interrupted);
    assert_eq!(cause(libc::EEXIST), Cause::Other);
    assert!(cause(libc::EINTR).is_transient() && !cause(libc::EINVAL).is_transient());
}

#[test]
fn it_explains_itself() {
    let guest = GuestRange::new(0x4000_0000, 0x4000_0000);
    let census = Census {
        total_pages: 262_144,
        normal: 262_139,
        cma: vec![("reserved".to_owned(), 3)],
        movable: 2,
        absent: 0,
        basis: Basis::Pfn,
    };
    let source = errno(libc::ENOMEM);
    let holder = Holder { pid: 4711, command: "virtiofsd".to_owned(), maps: true };
    let mut error = PinError::Refused {
        guest,
        culprits: vec![guest],
        cause: Cause::Migration { pages: 5 },
        attempts: 14,
        elapsed: Duration::from_secs(10),
        census: Some(Box::new(census)),
        holders: Vec::new(),
        refusal: Box::new(Refusal::DmaMap(MapError { call: "VFIO_IOMMU_MAP_DMA", guest, source })),
    };
    assert_eq!(
        error.to_string(),
        "cannot map for DMA guest memory 0x40000000..0x80000000: 5 pages could not be moved out of CMA or ZONE_MOVABLE \
         (14 attempts, 10.0 s); 3 pages are in CMA area \"reserved\"; 2 pages are in ZONE_MOVABLE"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("VFIO_IOMMU_MAP_DMA iova 0x40000000..0x80000000"), "{source}");
    assert!(error.help().unwrap().to_string().contains("drop_caches"));
    let PinError::Refused { holders, .. } = &mut error else { panic!() };
    holders.push(holder);
    assert_eq!(
        error.help().unwrap().to_string(),
        "another process has the guest's memory: virtiofsd (pid 4711) maps it. Stop it, then retry"
    );
}
