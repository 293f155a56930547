use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

#[test]
fn a_file_is_replaced_and_nothing_is_left_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmm.prom");
    replace(&path, b"one").unwrap();
    let (before, held) = (fs::metadata(&path).unwrap().ino(), fs::File::open(&path).unwrap());
    replace(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    // Who has the old one open goes on reading that.
    assert_eq!(io::read_to_string(held).unwrap(), "one");
    assert_ne!(fs::metadata(&path).unwrap().ino(), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_link_stays_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::write(&file, "old").unwrap();
    symlink("file", &link).unwrap();
    replace(&link, b"new").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_device_is_written_to() {
    replace(Path::new("/dev/null"), b"x").unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    assert!(replace(&directory.path().join("none/file"), b"x").is_err());
    assert!(replace(directory.path(), b"x").is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
