use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::GuestRange;
use crate::bytes::GIB;
use crate::pin::report::{Means, Times};
use crate::pin::{Culprit, PinError, PinReport};
use crate::residency::{Basis, Census, Vmstat};

fn devices(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Names and labels of all samples with their values, once the text has been found to be as the format wants it.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut families, mut samples, mut current) = (BTreeSet::new(), BTreeMap::new(), "");
    assert!(text.ends_with('\n'));
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(families.insert(name) && help.ends_with('.'), "{line}");
            assert_eq!(lines.next(), Some(format!("# TYPE {name} gauge").as_str()));
            assert!(name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
            current = name;
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        assert!(sample.starts_with(&format!("{current}{{devices=\"")) && sample.ends_with("\"}"), "{line}");
        assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{line} is there twice");
    }
    samples
}

fn report() -> PinReport {
    let census = |cma| Census {
        total_pages: 262_144,
        normal: 262_144 - cma,
        cma: vec![("reserved".to_owned(), cma)],
        movable: 0,
        absent: 0,
        basis: Basis::Pfn,
    };
    let culprit = |replaced| Culprit { guest: GuestRange::new(0, 2 << 20), refusals: 6, replaced };
    PinReport {
        bytes: GIB,
        pages: 262_144,
        mapped: vec![],
        found: Some(census(1000)),
        census: Some(census(0)),
        counters: Some(Vmstat { pgmigrate_success: 1003, ..Vmstat::default() }),
        retries: 7,
        culprits: vec![culprit(true), culprit(false)],
        means: Means::default(),
        nodes: vec![(0, GIB / 4), (1, 3 * GIB / 4)],
        times: Times { pinning: Duration::from_millis(1250), ..Times::default() },
    }
}

#[test]
fn a_start_that_went_well() {
    let _alone = crate::pin::serial();
    let record = Record::new(Ok(&report()), &devices(&["0000:01:00.0", "0000:02:00.0"]), GIB, None);
    let samples = samples(&record.metrics());
    let expected = [
        ("success{", "}", 1.0),
        ("memory_bytes{", "}", GIB as f64),
        ("device_memory_bytes{", ",device=\"0000:02:00.0\"}", GIB as f64),
        ("duration_seconds{", ",phase=\"pinning\"}", 1.25),
        ("resident_pages{", ",when=\"found\",place=\"cma\"}", 1000.0),
        ("resident_pages{", ",when=\"now\",place=\"cma\"}", 0.0),
        ("resident_pages{", ",when=\"now\",place=\"normal\"}", 262_144.0),
        ("resident_pages_exact{", ",when=\"now\"}", 1.0),
        ("retries{", "}", 7.0),
        ("culprits{", "}", 2.0),
        ("replaced_culprits{", "}", 1.0),
        ("node_bytes{", ",node=\"1\"}", 805_306_368.0),
        ("host_events{", ",counter=\"pgmigrate_success\"}", 1003.0),
    ];
    for (name, labels, value) in expected {
        let sample = format!("vmm_pin_{name}devices=\"0000:01:00.0,0000:02:00.0\"{labels}");
        assert_eq!(samples.get(&sample), Some(&value), "{sample}");
    }
    assert!(!samples.keys().any(|sample| sample.contains("failure")));
}

#[test]
fn a_start_that_failed() {
    let _alone = crate::pin::serial();
    let error = PinError::NoPinner { reason: "none".to_owned() };
    let samples = samples(&Record::new(Err(&error), &devices(&["0000:01:00.0"]), GIB, None).metrics());
    let value = |sample: &str| samples.get(sample).copied();
    assert_eq!(value("vmm_pin_success{devices=\"0000:01:00.0\"}"), Some(0.0));
    assert_eq!(value("vmm_pin_failure_info{devices=\"0000:01:00.0\",kind=\"no_pinner\"}"), Some(1.0));
    assert_eq!(
        value("vmm_pin_device_memory_bytes{devices=\"0000:01:00.0\",device=\"0000:01:00.0\"}"),
        Some(0.0)
    );
    assert!(!samples.keys().any(|sample| sample.contains("resident")));
}

#[test]
fn labels_are_quoted() {
    assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
}
