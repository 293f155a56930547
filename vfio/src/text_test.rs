use proptest::prelude::*;

use super::*;

#[test]
fn paths_are_unescaped() {
    for (field, path) in [
        ("/mnt/a\\040b", "/mnt/a b"),
        ("\\134040", "\\040"),
        ("\\011\\012", "\t\n"),
        ("\\400 \\08 \\", "\\400 \\08 \\"),
        ("\\303\\251", "é"),
    ] {
        assert_eq!(unescape(field), path);
    }
}

#[test]
fn what_is_not_text_is_read_all_the_same() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"a\xffb").unwrap();
    assert_eq!(read(file.path()).unwrap(), "a\u{fffd}b");
    assert_eq!(read_or_empty(Path::new("/nonexistent")), "");
    assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

proptest! {
    #[test]
    fn anything_can_be_unescaped(text in any::<String>()) {
        prop_assert!(unescape(&text).len() <= text.len() * 3);
    }
}
