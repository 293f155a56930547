use std::fs::OpenOptions;
use std::path::Path;

use super::*;

fn open(path: &Path, writable: bool) -> File {
    OpenOptions::new().read(true).write(writable).open(path).unwrap()
}

#[test]
fn readers_share_and_writers_exclude() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let (one, two) = (open(image.path(), false), open(image.path(), false));
    assert!(acquire(&one, false).unwrap() && acquire(&two, false).unwrap());
    let writer = open(image.path(), true);
    assert!(!acquire(&writer, true).unwrap());
    drop((one, two));
    assert!(acquire(&writer, true).unwrap());
    assert!(!acquire(&open(image.path(), true), true).unwrap());
    assert!(!acquire(&open(image.path(), false), false).unwrap());
    drop(writer);
    assert!(acquire(&open(image.path(), false), false).unwrap());
}

#[test]
fn a_refused_lock_leaves_nothing_behind() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let reader = open(image.path(), false);
    assert!(acquire(&reader, false).unwrap());
    let refused = open(image.path(), true);
    assert!(!acquire(&refused, true).unwrap());
    // If the refused writer still held its locks, another reader would be refused as well.
    assert!(acquire(&open(image.path(), false), false).unwrap());
}

#[test]
fn the_bytes_are_those_of_qemu() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let ours = open(image.path(), true);
    assert!(acquire(&ours, true).unwrap());
    let other = open(image.path(), true);
    let held: Vec<i64> = (90..300).filter(|&byte| is_held(&other, byte).unwrap()).collect();
    assert_eq!(held, [100, 101, 103, 201, 203]);
}

#[test]
fn a_duplicate_keeps_the_lock() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let first = open(image.path(), true);
    assert!(acquire(&first, true).unwrap());
    let duplicate = first.try_clone().unwrap();
    drop(first);
    assert!(!acquire(&open(image.path(), true), true).unwrap());
    drop(duplicate);
    assert!(acquire(&open(image.path(), true), true).unwrap());
}
