use std::path::Path;

use super::debugfs::tests::write;
use super::*;
use crate::bytes::MIB;

const AREA_900M: PfnRange = 0x10_0000..0x10_0000 + 230_400;

fn with_cma(mib: u64) -> Meminfo {
    Meminfo { cma_total: mib * MIB, ..Meminfo::default() }
}

/// A host that has none of the sources yet.
fn host() -> (tempfile::TempDir, Sources) {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let sources = Sources {
        debugfs: at("debugfs"),
        kmsg: at("kmsg"),
        device_tree: at("tree"),
        cmdline: at("cmdline"),
        sysfs: at("sysfs"),
    };
    (root, sources)
}

fn area(name: &str, range: PfnRange) -> CmaArea {
    CmaArea { name: name.to_owned(), ranges: vec![range] }
}

fn pool(root: &Path, name: &str, start: u32, size: u32) {
    write(root, "tree/reserved-memory/#address-cells", 1u32.to_be_bytes());
    write(root, "tree/reserved-memory/#size-cells", 1u32.to_be_bytes());
    write(root, &format!("tree/reserved-memory/{name}/compatible"), "shared-dma-pool\0");
    write(root, &format!("tree/reserved-memory/{name}/reusable"), "");
    write(
        root,
        &format!("tree/reserved-memory/{name}/reg"),
        [start.to_be_bytes(), size.to_be_bytes()].concat(),
    );
}

#[test]
fn sources_that_do_not_add_up_are_not_believed() {
    let (root, sources) = host();
    write(root.path(), "debugfs/reserved/base_pfn", "1048576\n");
    write(root.path(), "debugfs/reserved/count", "512\n");
    write(root.path(), "kmsg", "cma: Reserved 900 MiB at 0x0000000100000000\n");
    let unknown = sources.discover(&with_cma(904));
    let CmaAreas::Unknown { reason } = &unknown else { panic!("{unknown:?}") };
    assert_eq!(
        reason,
        "CMA areas cannot be located (debugfs: names 2 MiB of 904 MiB; kernel log: names 900 MiB of 904 MiB; device tree: none)"
    );
    assert!(unknown.known().is_empty());
    // The log helps where debugfs is not enough, and the name is there for everybody.
    write(root.path(), "sysfs/reserved/total_pages", "");
    let known = sources.discover(&with_cma(900));
    assert_eq!(known.known(), [area("reserved", AREA_900M)]);
}

#[test]
fn an_area_without_its_place_is_mentioned() {
    let (root, sources) = host();
    write(root.path(), "kmsg", "cma: Reserved 16 MiB at 0x3f000000\ncma: Reserved 8192 MiB in 2 ranges\n");
    let CmaAreas::Unknown { reason } = sources.discover(&with_cma(8208)) else { panic!() };
    assert!(reason.contains("kernel log: names 16 MiB of 8208 MiB and 8 GiB without its place"), "{reason}");
}

#[test]
fn the_device_tree_names_what_the_log_has_lost() {
    let (root, sources) = host();
    pool(root.path(), "linux,cma@80000000", 0x8000_0000, 64 << 20);
    pool(root.path(), "camera@90000000", 0x9000_0000, 16 << 20);
    write(root.path(), "tree/reserved-memory/linux,cma@80000000/linux,cma-default", "");
    let tree = [area("linux,cma@80000000", 0x80000..0x84000), area("camera@90000000", 0x90000..0x91000)];
    assert_eq!(sources.discover(&with_cma(80)).known(), tree);
    // A dynamic one is only in the log.
    write(
        root.path(),
        "kmsg",
        "Reserved memory: created CMA memory pool at 0x80000000, size 64 MiB\ncma: Reserved 32 MiB at 0xa0000000\n",
    );
    let [default, camera] = tree;
    let all = [default.clone(), camera, area("cma@0xa0000000", 0xa0000..0xa2000)];
    assert_eq!(sources.discover(&with_cma(112)).known(), all);
    // One of the tree was not made.
    let made = [area("cma@0x80000000", 0x80000..0x84000), area("cma@0xa0000000", 0xa0000..0xa2000)];
    assert_eq!(sources.discover(&with_cma(96)).known(), made);
    // `cma=` takes the place of the default one.
    write(root.path(), "cmdline", "cma=16M");
    write(root.path(), "kmsg", "");
    assert_eq!(sources.discover(&with_cma(16)).known()[0].name, "camera@90000000");
    assert!(sources.discover(&with_cma(64)).known().is_empty());
    assert_eq!(default.hugetlb(), None);
}

#[test]
fn areas_for_huge_pages_go_by_their_name() {
    let gib = 0..1 << 18;
    assert_eq!(area("hugetlb0", gib.clone()).hugetlb(), Some(1 << 30));
    for name in ["hugetlb", "hugetlbx", "reserved", "hugetlb0a"] {
        assert_eq!(area(name, gib.clone()).hugetlb(), None, "{name}");
    }
    let known = CmaAreas::Known(vec![
        area("hugetlb0", gib.clone()),
        area("reserved", gib.clone()),
        area("hugetlb1", gib),
    ]);
    assert_eq!(hugetlb_bytes(&known), 2 << 30);
}

#[test]
fn no_cma_is_known() {
    let (_root, sources) = host();
    assert_eq!(sources.discover(&with_cma(0)), CmaAreas::Known(vec![]));
}
