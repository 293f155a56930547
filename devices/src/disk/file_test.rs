use super::*;

#[test]
fn whoever_has_a_file_open_is_named() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let metadata = image.as_file().metadata().unwrap();
    assert!(holders(metadata.dev(), metadata.ino()).is_empty());
    let mut child = std::process::Command::new("sleep");
    child.arg("60").stdin(image.as_file().try_clone().unwrap());
    let mut child = child.spawn().unwrap();
    let expected = format!("(pid {})", child.id());
    let holders = holders(metadata.dev(), metadata.ino());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(&holders[..], [one] if one.ends_with(&expected)), "{holders:?}");
}

#[test]
fn direct_io_asks_for_powers_of_two() {
    let file = tempfile::tempfile_in(".").unwrap();
    file.set_len(1 << 20).unwrap();
    // Without O_DIRECT nothing is refused.
    assert_eq!(direct_io(&file).unwrap(), DirectIo { block: 512, memory: 512 });
}
