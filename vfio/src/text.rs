//! Text that the host gives, bounded in size and never assumed to be UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More than any file of /proc and /sys that is read here has, in bytes; a bound on what one can make us allocate.
const LIMIT: u64 = 16 << 20;

/// The contents of a file, with U+FFFD for what is not UTF-8.
///
/// # Errors
/// It cannot be read, or is larger than anything that makes sense.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The contents of a file, or nothing.
pub(crate) fn read_or_empty(path: &Path) -> String {
    read(path).unwrap_or_default()
}

/// Undoes the octal escapes with which the kernel writes paths into lines (`\040` for a space).
pub(crate) fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[path = "text_test.rs"]
mod tests;
