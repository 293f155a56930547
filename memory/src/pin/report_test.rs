use super::*;

fn report(basis: Basis) -> PinReport {
    let census = Census { total_pages: 131_072, normal: 131_072, cma: vec![], movable: 0, absent: 0, basis };
    PinReport {
        bytes: 512 << 20,
        pages: 131_072,
        mapped: vec![],
        census,
        counters: Some(Vmstat::default()),
        retries: 0,
        elapsed: Duration::from_micros(214_900),
        trial: TrialKind::IoUring,
    }
}

#[test]
fn one_line() {
    assert_eq!(
        report(Basis::Pfn).line(&["0000:00:01.0"]),
        "pinned 512 MiB for 0000:00:01.0: 131072 pages, 0 in CMA, 0 in ZONE_MOVABLE, 0 migrated, 214 ms"
    );
    assert_eq!(
        report(Basis::NothingMovable).line(&["0000:00:01.0", "0000:00:02.0"]),
        "pinned 512 MiB for 0000:00:01.0, 0000:00:02.0: 131072 pages, 0 in CMA, 0 in ZONE_MOVABLE, 0 migrated, 214 ms"
    );
    assert!(report(Basis::Pfn).line(&[]).starts_with("faulted in 512 MiB: 131072 pages"));
}

#[test]
fn pages_in_cma_are_told() {
    let mut report = report(Basis::Pfn);
    report.census.cma = vec![("a".to_owned(), 3), ("b".to_owned(), 4)];
    report.census.absent = 2;
    report.counters = None;
    assert_eq!(
        report.line(&["0000:00:01.0"]),
        "pinned 512 MiB for 0000:00:01.0: 131072 pages, 7 in CMA, 0 in ZONE_MOVABLE, 2 not faulted in, migrations unknown, 214 ms"
    );
}

#[test]
fn the_unknown_is_not_zero() {
    let reason = "page frame numbers cannot be read without CAP_SYS_ADMIN".to_owned();
    let line = report(Basis::CmaFreeEstimate { reason }).line(&["0000:00:01.0"]);
    assert_eq!(
        line,
        "pinned 512 MiB for 0000:00:01.0: 131072 pages, residency unknown: page frame numbers cannot be read without \
         CAP_SYS_ADMIN (estimate 0 in CMA, 0 in ZONE_MOVABLE), 0 migrated, 214 ms"
    );
}
