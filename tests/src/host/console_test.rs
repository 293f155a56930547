use super::*;

#[test]
fn the_tail_is_the_last_lines_without_carriage_returns() {
    assert_eq!(last_lines("a\r\nb\r\nc\r\n", 2), "b\nc");
    assert_eq!(last_lines("a\n", 5), "a");
    assert_eq!(last_lines("", 5), "");
}

#[test]
fn old_bytes_are_forgotten() {
    let mut log = Log::default();
    log.append(&[b'a'; KEPT]);
    log.append(b"end");
    assert_eq!(log.bytes.len(), KEPT);
    assert_eq!(log.bytes.back(), Some(&b'd'));
}
