use super::*;

#[test]
fn the_checksum_is_the_word_after_sha256() {
    let digest = "ab".repeat(32);
    let line = format!("read 8 MiB from /dev/nvme0n1, sha256 {digest}, 12 ms\r\nsha256 sums are fine\n");
    assert_eq!(checksum(&line), Some(digest.clone()));
    assert_eq!(checksum(&format!("sha256: {digest}")), Some(digest));
    assert_eq!(checksum("sha256 abcd"), None);
    assert_eq!(checksum(""), None);
}
