//! A machine as it is written: a TOML file, and the words of a command line.
//!
//! What `--dry-run` prints of it is a file that says the same.

use cli::written::{of_file, of_words};

pub(super) fn file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(printed) = of_file(text) {
        check(&printed);
    }
}

/// Words are separated by NULs, as in /proc/PID/cmdline.
pub(super) fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let words: Vec<&str> = text.split('\0').collect();
    if let Some(printed) = of_words(&words) {
        check(&printed);
    }
}

fn check(printed: &str) {
    let again = of_file(printed);
    let again = again.unwrap_or_else(|| panic!("what was printed cannot be read:\n{printed}"));
    let last = of_file(&again);
    assert_eq!(last.as_deref().map(values), Some(values(&again)), "what was printed says something else");
    assert_eq!(values(printed).len(), values(&again).len(), "something of it is lost:\n{printed}\n{again}");
}

/// The lines without where they are from.
fn values(printed: &str) -> Vec<&str> {
    printed.lines().map(|line| line.rsplit_once("  # ").map_or(line, |(value, _)| value)).collect()
}
