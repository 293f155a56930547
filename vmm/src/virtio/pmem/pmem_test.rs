use devices::disk::DiskOptions;

use super::*;
use crate::virtio::disk::DiskSpec;

fn pmem(path: &str, read_only: bool) -> PmemOptions {
    PmemOptions { path: path.into(), read_only, size: None, lock: true }
}

#[test]
fn one_file_can_be_read_twice_but_not_written() {
    let disk = |path: &str, read_only| DiskSpec::new(DiskOptions { read_only, ..DiskOptions::new(path) });
    let spec = |disks, pmems| VirtioSpec { disks, pmems, ..VirtioSpec::default() };
    let twice = |spec: &VirtioSpec| {
        let pmems = spec.pmems.iter().enumerate();
        pmems.filter(|(index, options)| is_given_before(spec, *index, options)).count()
    };
    assert_eq!(twice(&spec(vec![], vec![pmem("/a", false), pmem("/b", false), pmem("/a", true)])), 1);
    assert_eq!(twice(&spec(vec![], vec![pmem("/tmp", true), pmem("/tmp/../tmp", true)])), 0);
    assert_eq!(twice(&spec(vec![disk("/a", true)], vec![pmem("/a", false)])), 1);
    assert_eq!(twice(&spec(vec![disk("/a", true), disk("/b", false)], vec![pmem("/a", true)])), 0);
}

#[test]
fn files_that_cannot_be_had_are_each_reported() {
    let mut problems = Problems::default();
    let pmems = vec![pmem("/nonexistent/a", false), pmem("/", true), pmem("/nonexistent/a", true)];
    assert!(open(&VirtioSpec { pmems, ..VirtioSpec::default() }, &mut problems).is_empty());
    assert_eq!((problems.0.len(), problems.exit_code()), (3, Class::Usage as u8));
}
