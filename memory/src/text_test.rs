use super::*;

#[test]
fn no_more_than_the_limit_and_any_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, b"a\xffb").unwrap();
    assert_eq!(bytes(&path, 3).unwrap(), b"a\xffb");
    assert_eq!(bytes(&path, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(read(&path).unwrap(), "a\u{fffd}b");
}

#[test]
fn a_file_without_end() {
    assert_eq!(read("/dev/zero").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}
