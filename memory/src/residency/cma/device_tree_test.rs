#![expect(clippy::single_range_in_vec_init, reason = "lists of frame ranges, some with one range")]

use proptest::prelude::*;

use super::super::debugfs::tests::write;
use super::*;
use crate::fuzz::{hostile, thoroughly};

const PARENT: &str = "reserved-memory";

fn cells(cells: &[u32]) -> Vec<u8> {
    cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()
}

fn tree(address_cells: u32, size_cells: u32) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &format!("{PARENT}/#address-cells"), cells(&[address_cells]));
    write(root.path(), &format!("{PARENT}/#size-cells"), cells(&[size_cells]));
    write(root.path(), &format!("{PARENT}/ranges"), "");
    root
}

fn pool(root: &Path, name: &str, reg: Option<&[u32]>, more: &[(&str, &str)]) {
    let file = |file: &str| format!("{PARENT}/{name}/{file}");
    write(root, &file("compatible"), "vendor,pool\0shared-dma-pool\0");
    write(root, &file("reusable"), "");
    if let Some(reg) = reg {
        write(root, &file("reg"), cells(reg));
    }
    more.iter().for_each(|(name, text)| write(root, &file(name), text));
}

#[test]
fn pools_at_fixed_addresses() {
    let root = tree(2, 2);
    pool(
        root.path(),
        "linux,cma@80000000",
        Some(&[0, 0x8000_0000, 0, 0x400_0000]),
        &[("linux,cma-default", "")],
    );
    pool(root.path(), "high@400000000", Some(&[4, 0, 1, 0, 5, 0, 0, 0x1000]), &[("status", "okay\0")]);
    pool(root.path(), "dynamic", None, &[("size", "")]);
    pool(root.path(), "off@90000000", Some(&[0, 0x9000_0000, 0, 0x1000]), &[("status", "disabled\0")]);
    pool(root.path(), "coherent@a0000000", Some(&[0, 0xa000_0000, 0, 0x1000]), &[("no-map", "")]);
    pool(root.path(), "other@b0000000", Some(&[0, 0xb000_0000, 0, 0x1000]), &[("compatible", "ramoops\0")]);
    let default = CmaArea { name: "linux,cma@80000000".to_owned(), ranges: vec![0x80000..0x84000] };
    let high = CmaArea { name: "high@400000000".to_owned(), ranges: vec![0x40_0000..0x50_0000] };
    assert_eq!(areas(root.path(), "quiet"), Ok(vec![default, high.clone()]));
    // The kernel skips the tree's default area for the one on its command line.
    assert_eq!(areas(root.path(), "quiet cma=64M"), Ok(vec![high]));
}

#[test]
fn one_cell_each() {
    let root = tree(1, 1);
    pool(root.path(), "linux,cma", Some(&[0x8000_0000, 0x400_0000]), &[]);
    assert_eq!(areas(root.path(), "").unwrap()[0].ranges, [0x80000..0x84000]);
}

#[test]
fn what_makes_no_sense_is_left_out() {
    let root = tree(2, 2);
    for (name, reg) in [
        ("short", &[0, 0x8000_0000, 0][..]),
        ("empty", &[0, 0x8000_0000, 0, 0]),
        ("odd", &[0, 0x8000_0001, 0, 0x1000]),
        ("wraps", &[u32::MAX, 0xffff_f000, 0, 0x1000]),
    ] {
        pool(root.path(), name, Some(reg), &[]);
    }
    assert_eq!(areas(root.path(), ""), Ok(vec![]));
    assert_eq!(areas(tree(3, 2).path(), ""), Err("it is not understood".to_owned()));
    assert_eq!(areas(Path::new("/nonexistent"), ""), Err("none".to_owned()));
}

proptest! {
    #![proptest_config(thoroughly())]
    #[test]
    fn takes_any_reg(reg in hostile(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]), address in 0..4u64, size in 0..4u64) {
        if let Some(range) = first_range(&reg, address, size) {
            prop_assert!(range.start < range.end && range.end <= u64::MAX / PAGE_SIZE + 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: thoroughly().cases.min(300), ..thoroughly() })]
    #[test]
    fn takes_any_files(
        widths in proptest::collection::vec(hostile(&[0, 0, 0, 2]), 2),
        compatible in hostile(b"shared-dma-pool\0"),
        status in hostile(b"okay\0"),
        reg in hostile(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
    ) {
        let root = tree(2, 2);
        write(root.path(), &format!("{PARENT}/#address-cells"), &widths[0]);
        write(root.path(), &format!("{PARENT}/#size-cells"), &widths[1]);
        for (name, bytes) in [("compatible", compatible), ("status", status), ("reg", reg), ("reusable", vec![])] {
            write(root.path(), &format!("{PARENT}/a/{name}"), bytes);
        }
        prop_assert!(areas(root.path(), "").is_ok_and(|areas| areas.len() <= 1) || widths.iter().any(|w| *w != [0, 0, 0, 2]));
    }
}
