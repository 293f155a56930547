use std::io::{Read, pipe};

use super::*;

#[test]
fn a_reader_who_does_not_read_is_waited_for_once() {
    let (mut reader, mut writer) = pipe().unwrap();
    let deaf = AtomicBool::default();
    let piece = [b'x'; 10_000];
    let mut taken = 0;
    while !deaf.load(Ordering::Relaxed) {
        taken = write_or_lose(&mut writer, &deaf, &piece).unwrap();
    }
    // The last one was lost, and so is the next.
    assert_eq!(taken, piece.len());
    assert_eq!(write_or_lose(&mut writer, &deaf, &piece).unwrap(), piece.len());
    // Who reads again is told again.
    assert!(reader.read(&mut [0; 8192]).unwrap() > 0);
    assert_eq!(write_or_lose(&mut writer, &deaf, b"again").unwrap(), 5);
    assert!(!deaf.load(Ordering::Relaxed));
    drop(writer);
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert!(all.ends_with(b"xxagain"));
}

#[test]
fn a_reader_who_is_gone_is_an_error_and_no_panic() {
    let (reader, mut writer) = pipe().unwrap();
    drop(reader);
    assert!(write_or_lose(&mut writer, &AtomicBool::default(), b"hello").is_err());
}
