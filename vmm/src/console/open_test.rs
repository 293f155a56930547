use std::io::{Read, Write};

use super::*;

#[test]
fn a_pseudo_terminal_carries_bytes_unchanged_both_ways() {
    let mut open = OpenConsole::open(&Serial::Pty, None).unwrap();
    let path = open.pty.clone().unwrap();
    let mut other = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let bytes = b"a\n\r\x03\x04\xff";
    open.console.output.write_all(bytes).unwrap();
    let mut read = [0; 6];
    other.read_exact(&mut read).unwrap();
    assert_eq!(&read, bytes);
    other.write_all(bytes).unwrap();
    open.console.input.file.read_exact(&mut read).unwrap();
    assert_eq!(&read, bytes);
    // Who leaves can come back: the guest does not see an end.
    drop(other);
    open.console.output.write_all(b"later\n").unwrap();
    let mut other = File::open(open.pty.clone().unwrap()).unwrap();
    other.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"later\n");
}

#[test]
fn output_goes_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("console");
    let mut open = OpenConsole::open(&Serial::File(path.clone()), None).unwrap();
    open.console.output.write_all(b"hello").unwrap();
    assert_eq!(open.console.input.file.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    let missing = Serial::File(directory.path().join("no/such/console"));
    assert!(matches!(OpenConsole::open(&missing, None), Err(ConsoleError::File { .. })));
}
