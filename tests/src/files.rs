//! File operations whose errors say what was to be done to which file.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file operation failed.
#[derive(Debug, Error)]
#[error("cannot {action} {}", .path.display())]
pub(crate) struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Adds the operation to an I/O error.
pub(crate) trait During<T> {
    /// `action` is a verb that the path follows: "read", "create".
    fn during(self, action: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError { action, path: path.to_owned(), source: source.into() })
    }
}
