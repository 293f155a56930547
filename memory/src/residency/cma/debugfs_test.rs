#![expect(clippy::single_range_in_vec_init, reason = "lists of frame ranges, some with one range")]

use proptest::prelude::*;

use super::*;
use crate::fuzz::{hostile, thoroughly};

pub(in crate::residency::cma) fn write(root: &Path, file: &str, text: impl AsRef<[u8]>) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn area(name: &str, ranges: &[PfnRange]) -> CmaArea {
    CmaArea { name: name.to_owned(), ranges: ranges.to_vec() }
}

#[test]
fn one_range_an_area() {
    let root = tempfile::tempdir().unwrap();
    for (file, text) in [("base_pfn", "1048576\n"), ("count", "230400\n"), ("order_per_bit", "0\n")] {
        write(root.path(), &format!("reserved/{file}"), text);
    }
    assert_eq!(areas(root.path()), Ok(vec![area("reserved", &[1_048_576..1_278_976])]));
}

#[test]
fn several_ranges_an_area() {
    let root = tempfile::tempdir().unwrap();
    let words = |n: usize| "0 ".repeat(n);
    write(root.path(), "single/count", "512\n");
    write(root.path(), "single/ranges/0/base_pfn", "8192\n");
    // Symbolic links to the first range, for tools that know no others.
    std::os::unix::fs::symlink("ranges/0/base_pfn", root.path().join("single/base_pfn")).unwrap();
    write(root.path(), "double/count", "1536\n");
    write(root.path(), "double/order_per_bit", "1\n");
    write(root.path(), "double/ranges/0/base_pfn", "65536\n");
    write(root.path(), "double/ranges/0/bitmap", words(8));
    write(root.path(), "double/ranges/1/base_pfn", "32768\n");
    write(root.path(), "double/ranges/1/bitmap", words(16));
    let mut areas = areas(root.path()).unwrap();
    areas.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(areas, [area("double", &[32768..33792, 65536..66048]), area("single", &[8192..8704])]);
}

#[test]
fn what_is_damaged_is_not_understood() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "reserved/base_pfn", "18446744073709551615\n");
    write(root.path(), "reserved/count", "18446744073709551615\n");
    assert_eq!(areas(root.path()), Err("area reserved is not understood".to_owned()));
    write(root.path(), "reserved/order_per_bit", "64\n");
    write(root.path(), "reserved/ranges/0/bitmap", "0 0\n");
    write(root.path(), "reserved/ranges/1/bitmap", "0 0\n");
    assert!(areas(root.path()).is_err());
}

proptest! {
    #![proptest_config(thoroughly())]
    #[test]
    fn words_are_counted_as_they_come(text in hostile(b"4294967295 0 65535\n 12  0\t1"), step in 1..9usize) {
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = self.1.min(self.0.len());
                buffer[..length].copy_from_slice(&self.0[..length]);
                self.0 = &self.0[length..];
                Ok(length)
            }
        }
        let expected = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
        prop_assert_eq!(words(Slow(&text, step)).unwrap(), expected as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: thoroughly().cases.min(300), ..thoroughly() })]
    #[test]
    fn takes_any_files(
        numbers in proptest::collection::vec(hostile(b"1048576\n"), 4),
        bitmaps in proptest::collection::vec(hostile(b"0 0 0 0 4294967295 0 0 0\n"), 2),
    ) {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a/count", &numbers[0]);
        write(root.path(), "a/order_per_bit", &numbers[1]);
        for (n, bitmap) in bitmaps.iter().enumerate() {
            write(root.path(), &format!("a/ranges/{n}/base_pfn"), &numbers[2 + n]);
            write(root.path(), &format!("a/ranges/{n}/bitmap"), bitmap);
        }
        if let Ok(areas) = areas(root.path()) {
            prop_assert!(areas.iter().flat_map(|area| &area.ranges).all(|range| range.start <= range.end));
        }
    }
}
