use super::*;

fn report(basis: Basis) -> PinReport {
    let census = Census { total_pages: 131_072, normal: 131_072, cma: vec![], movable: 0, absent: 0, basis };
    PinReport {
        bytes: 512 << 20,
        pages: 131_072,
        mapped: vec![],
        found: None,
        census: Some(census),
        counters: Some(Vmstat::default()),
        retries: 0,
        culprits: vec![],
        means: Means::default(),
        nodes: Vec::new(),
        times: Times { pinning: Duration::from_micros(214_900), ..Times::default() },
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
    let census = report.census.as_mut().unwrap();
    census.cma = vec![("a".to_owned(), 3), ("b".to_owned(), 4)];
    census.absent = 2;
    report.counters = None;
    assert_eq!(report.misplaced(), 7);
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

#[test]
fn an_eviction_is_told() {
    let mut report = report(Basis::Pfn);
    let census = report.census.clone().unwrap();
    report.found = Some(Census { cma: vec![("a".to_owned(), 120_000)], ..census });
    report.retries = 9;
    let guest = GuestRange::new(0, 2 << 20);
    report.culprits =
        vec![Culprit { guest, refusals: 2, replaced: false }, Culprit { guest, refusals: 6, replaced: true }];
    assert_eq!(
        report.line(&["0000:00:01.0"]),
        "pinned 512 MiB for 0000:00:01.0: 131072 pages, found 120000 in CMA, 0 in ZONE_MOVABLE, now 0 in CMA, \
         0 in ZONE_MOVABLE, 0 migrated, 9 retries, 1 x 2 MiB replaced, 214 ms"
    );
    report.census = None;
    assert!(report.line(&[]).contains("now residency not looked at, 0 migrated"));
}

#[test]
fn means_are_added_up() {
    let mut means = Means::default();
    means.add(Some(Pinner::OwnIoUring), 1, vec!["a".to_owned()]);
    means.add(Some(Pinner::HelperIoUring), 1, vec![]);
    means.add(None, 5, vec!["a".to_owned(), "b".to_owned()]);
    means.add(Some(Pinner::OwnIoUring), 1, vec![]);
    let pinners = vec![Pinner::HelperIoUring, Pinner::OwnIoUring];
    assert_eq!(means, Means { pinners, bare: 5, passed_over: vec!["a".to_owned(), "b".to_owned()] });
}
