//! What all benches print and write: a table whose rows come one by one, and a JSON file.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::files::{During, FileError};

/// A table with columns of fixed width.
pub(crate) struct Table {
    /// Title and width of each; figures are set to the right.
    columns: &'static [(&'static str, usize)],
    /// How many of them, from the left, hold words.
    words: usize,
}

impl Table {
    pub(crate) const fn new(words: usize, columns: &'static [(&'static str, usize)]) -> Table {
        Table { columns, words }
    }

    /// The titles.
    pub(crate) fn head(&self) -> String {
        self.line(self.columns.iter().map(|(title, _)| (*title).to_owned()))
    }

    /// One row, a cell for each column.
    pub(crate) fn row(&self, cells: impl IntoIterator<Item = String>) -> String {
        self.line(cells)
    }

    fn line(&self, cells: impl IntoIterator<Item = String>) -> String {
        let mut line = String::new();
        for (index, (cell, (_, width))) in cells.into_iter().zip(self.columns).enumerate() {
            if index < self.words {
                line.push_str(&format!("{cell:<width$}  "));
            } else {
                line.push_str(&format!("{cell:>width$}  "));
            }
        }
        line.trim_end().to_owned()
    }
}

/// Writes `value` to `path`, whose directory is made.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).during("create", directory)?;
    }
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::other).during("write", path)?;
    fs::write(path, text + "\n").during("write", path)
}

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
