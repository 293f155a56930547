use proptest::prelude::*;

use super::*;
use crate::fuzz::{hostile_text, thoroughly};
use crate::residency::Zone;

fn list(text: &str) -> IdList {
    IdList::parse(text).unwrap()
}

#[test]
fn lists_are_read() {
    let cpus = list("0-3,8,10-11\n");
    let members: Vec<u32> = (0..20).filter(|id| cpus.contains(*id)).collect();
    assert_eq!(members, [0, 1, 2, 3, 8, 10, 11]);
    assert_eq!(list("\n"), IdList::default());
    for text in ["a", "1-", "-1", "3-1", "1,,2", "4294967296", "0-1:1/2"] {
        assert_eq!(IdList::parse(text), None, "{text}");
    }
}

fn zones() -> Zones {
    let zone = |node, name: &str, free, free_cma| Zone {
        node,
        name: name.to_owned(),
        free,
        free_cma,
        low: 10,
        ..Zone::default()
    };
    Zones(vec![
        zone(0, "DMA32", 100, 0),
        zone(0, "Normal", 1000, 400),
        zone(0, "Movable", 5000, 0),
        zone(1, "Normal", 5, 0),
        zone(2, "Normal", 700, 0),
    ])
}

fn sysfs(nodes: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, cpus) in nodes {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("cpulist"), cpus).unwrap();
    }
    fs::write(root.path().join("online"), "0-3\n").unwrap();
    root
}

#[test]
fn allowed_nodes_and_what_can_be_pinned_there() {
    let root = sysfs(&[("node2", "\n"), ("node0", "0-1\n"), ("node1", "2\n"), ("nodex", "3\n")]);
    let node = |id, cpus, free| Node { id, cpus: list(cpus), free, total: 0 };
    let everywhere = allowed_memory("");
    let all = [node(0, "0-1", 90 + 590), node(1, "2", 0), node(2, "", 690)];
    assert_eq!(Node::allowed_in(root.path(), &everywhere, &zones()), all);
    let some = allowed_memory("Cpus_allowed:\t3\nMems_allowed_list:\t1-2\n");
    assert_eq!(Node::allowed_in(root.path(), &some, &zones()), all[1..]);
    assert_eq!(Node::allowed_in(Path::new("/nonexistent"), &everywhere, &zones()), []);
}

#[test]
fn policies_are_recognised() {
    assert!(!is_policy(include_str!("../../testdata/numa_maps.txt")));
    assert!(is_policy("00400000 interleave:0-1 file=/bin/vmm mapped=1 N0=1\n00401000 default\n"));
    assert!(is_policy("00400000 bind:1 file=/bin/vmm"));
    assert!(is_policy("00400000 prefer=relative:0 file=/bin/vmm"));
    assert!(!is_policy("00400000 local file=/bin/vmm"));
    assert!(!is_policy(""));
}

proptest! {
    #![proptest_config(thoroughly())]
    #[test]
    fn takes_any_text(
        cpus in hostile_text("0-3,8,10-11\n"),
        status in hostile_text(include_str!("../../testdata/status.txt")),
        maps in hostile_text("00400000 interleave:0-1 file=/bin/vmm mapped=1 N0=1\n"),
        id: u32,
    ) {
        if let Some(ids) = IdList::parse(&cpus) {
            prop_assert!(ids.0.len() <= cpus.len());
            prop_assert!(!ids.contains(id) || ids.0.iter().any(|range| range.contains(&id)));
        }
        prop_assert!(status.contains("Mems_allowed_list") || allowed_memory(&status).contains(id));
        is_policy(&maps);
    }
}

#[test]
fn the_memory_of_a_node_is_read() {
    assert_eq!(total("Node 0 MemTotal:        3047424 kB\nNode 0 MemFree:  1 kB\n"), 3_047_424 << 10);
    assert_eq!((total(""), total("Node 0 MemTotal: much")), (0, 0));
}
