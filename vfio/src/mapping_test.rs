#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges are what is tested")]

use std::os::unix::fs::MetadataExt;

use super::*;

fn region(size: u64) -> RegionInfo {
    RegionInfo { size, offset: 0x1000, readable: true, writable: true, mappable: true, sparse: None }
}

#[test]
fn areas_lie_as_in_the_bar_and_are_gone_afterwards() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(0x40_0000).unwrap();
    let mapping = BarMapping::new(&file, &region(0x20_0000), &[0..0x1000, 0x3000..0x20_0000]).unwrap();
    let [first, second] = mapping.areas() else { panic!("two areas") };
    assert_eq!(first.hva % 0x20_0000, 0);
    assert_eq!(second.hva - first.hva, 0x3000);
    assert_eq!((second.offset, second.size), (0x3000, 0x1f_d000));
    // By the file, not by the address: another test's thread may map something there at once.
    let inode = file.metadata().unwrap().ino().to_string();
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.split_whitespace().nth(4) == Some(&inode)).count()
    };
    assert_eq!(mapped(), 2);
    drop(mapping);
    assert_eq!(mapped(), 0);
}

#[test]
fn areas_outside_the_region_are_refused() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(0x4000).unwrap();
    assert!(BarMapping::new(&file, &region(0x1000), &[0..0x2000]).is_err());
    assert!(BarMapping::new(&file, &region(u64::MAX), &[0..0x1000]).is_err());
}
