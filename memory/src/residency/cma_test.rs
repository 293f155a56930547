#![expect(clippy::single_range_in_vec_init, reason = "lists of frame ranges, some with one range")]

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn with_cma(mib: u64) -> Meminfo {
    Meminfo { cma_total: mib * MIB, ..Meminfo::default() }
}

const AREA_900M: std::ops::Range<u64> = 0x10_0000..0x10_0000 + 230_400;

#[test]
fn kernel_log_in_all_its_forms() {
    let forms = [
        "cma: Reserved 900 MiB at 0x0000000100000000",
        "cma: Reserved 900 MiB at 0x0000000100000000 on node 0",
        "[    0.012345] cma: Reserved 900 MiB at 0x0000000100000000 on node -1",
        "6,123,12345,-;cma: Reserved 900 MiB at 0x0000000100000000",
        "6,123,12345,-,caller=T0;cma: Reserved 900 MiB at 0x0000000100000000",
        "OF: Reserved memory: created CMA memory pool at 0x0000000100000000, size 900 MiB",
    ];
    for line in forms {
        let areas = parse_log(line, &names(&["reserved"]));
        assert_eq!(areas, [CmaArea { name: "reserved".to_owned(), ranges: vec![AREA_900M] }], "{line}");
    }
}

#[test]
fn several_areas_are_named_by_their_place() {
    let log = "6,1,0,-;Linux version 7.3.4\n SUBSYSTEM=pci\n6,2,0,-;cma: Reserved 16 MiB at 0x000000003f000000\n\
               6,3,0,-;cma: Reserved 900 MiB at 0x0000000100000000\n6,4,0,-;cma: Reserved 16 MiB at 0x000000003f000000\n";
    let areas = parse_log(log, &names(&["reserved", "hugetlb0"]));
    assert_eq!(areas.len(), 2);
    assert_eq!((areas[0].name.as_str(), areas[0].pages()), ("cma@0x3f000000", 4096));
    assert_eq!(areas[1].name, "cma@0x100000000");
}

#[test]
fn log_lines_that_locate_nothing() {
    let lines = [
        "cma: Reserved 1800 MiB in 2 ranges",
        "hugetlb_cma: reserved 4096 MiB on node 0",
        "cma: Reserved 900 MiB at",
        "cma: Reserved MiB at 0x1000",
        "cma: Reserved 99999999999999999999 MiB at 0x1000",
        "cma: Reserved 18446744073709551615 MiB at 0x1000",
        "cma: Reserved 4 MiB at 0xfffffffffffff000",
        "cma: Reserved 0 MiB at 0x1000",
        "cma: Reserved -4 MiB at zz",
        // Written by user space: facility 1.
        "14,9,0,-;cma: Reserved 900 MiB at 0x0000000100000000",
        "",
        ";",
    ];
    for line in lines {
        assert_eq!(parse_log(line, &[]), [], "{line}");
    }
}

#[test]
fn debugfs_with_one_range_an_area() {
    let root = tempfile::tempdir().unwrap();
    for (file, text) in [("base_pfn", "1048576\n"), ("count", "230400\n"), ("order_per_bit", "0\n")] {
        write(root.path(), &format!("reserved/{file}"), text);
    }
    let areas = CmaAreas::discover_in(&with_cma(900), root.path(), Path::new("/nonexistent"), &[]);
    assert_eq!(areas.known(), [CmaArea { name: "reserved".to_owned(), ranges: vec![AREA_900M] }]);
}

#[test]
fn debugfs_with_several_ranges_an_area() {
    let root = tempfile::tempdir().unwrap();
    let words = |n: usize| "0 ".repeat(n);
    write(root.path(), "single/count", "512\n");
    write(root.path(), "single/ranges/0/base_pfn", "8192\n");
    write(root.path(), "double/count", "1536\n");
    write(root.path(), "double/order_per_bit", "1\n");
    write(root.path(), "double/ranges/0/base_pfn", "65536\n");
    write(root.path(), "double/ranges/0/bitmap", &words(8));
    write(root.path(), "double/ranges/1/base_pfn", "32768\n");
    write(root.path(), "double/ranges/1/bitmap", &words(16));
    let areas = CmaAreas::discover_in(&with_cma(8), root.path(), Path::new("/nonexistent"), &[]);
    let mut areas = areas.known().to_vec();
    areas.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(areas[0].ranges, [32768..33792, 65536..66048]);
    assert_eq!(areas[1].ranges, [8192..8704]);
}

#[test]
fn sources_that_do_not_add_up_are_not_believed() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "reserved/base_pfn", "1048576\n");
    write(root.path(), "reserved/count", "512\n");
    write(root.path(), "log", "cma: Reserved 900 MiB at 0x0000000100000000\n");
    let log = root.path().join("log");
    let debugfs = root.path().join("debugfs");
    let unknown = CmaAreas::discover_in(&with_cma(904), &debugfs, &log, &[]);
    let CmaAreas::Unknown { reason } = &unknown else { panic!("{unknown:?}") };
    assert!(reason.contains("kernel log: names 900 MiB of 904 MiB"), "{reason}");
    assert!(unknown.known().is_empty());
    // The log helps where debugfs is not enough.
    fs::create_dir(&debugfs).unwrap();
    let known = CmaAreas::discover_in(&with_cma(900), &debugfs, &log, &names(&["reserved"]));
    assert_eq!(known.known(), [CmaArea { name: "reserved".to_owned(), ranges: vec![AREA_900M] }]);
}

#[test]
fn damaged_debugfs_is_unknown() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "reserved/base_pfn", "18446744073709551615\n");
    write(root.path(), "reserved/count", "18446744073709551615\n");
    let areas = CmaAreas::discover_in(&with_cma(900), root.path(), Path::new("/nonexistent"), &[]);
    assert!(matches!(areas, CmaAreas::Unknown { .. }));
}

#[test]
fn no_cma_is_known() {
    let nowhere = Path::new("/nonexistent");
    assert_eq!(CmaAreas::discover_in(&with_cma(0), nowhere, nowhere, &[]), CmaAreas::Known(vec![]));
}

#[test]
fn the_kernel_log_of_this_host_can_be_read_to_its_end() {
    let log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(KMSG);
    match log {
        Ok(mut log) => assert!(read_log(&mut log).contains(';')),
        Err(error) => {
            assert!(matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOENT)))
        }
    }
}
