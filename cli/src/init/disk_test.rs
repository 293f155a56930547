use std::io::Write;

use super::*;

#[test]
fn the_first_8_mib_are_hashed() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let data: Vec<u8> = (0..(READ_MAX as usize + 4096)).map(|n| (n / 7) as u8).collect();
    file.write_all(&data).unwrap();
    let reading = read_start(file.path()).unwrap();
    assert_eq!(reading.bytes, READ_MAX);
    let expected: String =
        Sha256::digest(&data[..READ_MAX as usize]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(reading.sha256, expected);
}

#[test]
fn a_short_disk_is_read_whole() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"abc").unwrap();
    let reading = read_start(file.path()).unwrap();
    assert_eq!(reading.bytes, 3);
    assert_eq!(reading.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert!(read_start(Path::new("/nonexistent")).is_err());
}
