//! Reading what the kernel shows as files: never more than is sane, and as text whatever the bytes are.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More than any file of `/proc`, `/sys` or debugfs that is read here holds. `/proc/zoneinfo` grows with CPUs times zones,
/// a process's `maps` with its mappings; neither comes near.
const LIMIT: u64 = 16 << 20;

/// The text of `path`; bytes that are not UTF-8 are replaced.
///
/// # Errors
/// It cannot be read, or is larger than 16 MiB (`FileTooLarge`).
pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = bytes(path.as_ref(), LIMIT)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The bytes of `path`.
///
/// # Errors
/// It cannot be read, or is larger than `limit` (`FileTooLarge`).
pub(crate) fn bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "text_test.rs"]
mod tests;
