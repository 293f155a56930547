//! Byte counts as people write them: `512 MiB`, `1.5 GiB`, and `512M` as a flag takes it.

use std::fmt;

/// One kibibyte.
pub const KIB: u64 = 1 << 10;
/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// One gibibyte.
pub const GIB: u64 = 1 << 30;
/// One tebibyte.
pub const TIB: u64 = 1 << 40;

const FIVE_FIGURES: u64 = 100_000;
const UNITS: [(u64, &str, &str); 4] =
    [(TIB, "TiB", "T"), (GIB, "GiB", "G"), (MIB, "MiB", "M"), (KIB, "KiB", "K")];

/// A byte count. Plain formatting is exact, in the largest unit that divides it (`1536 MiB`); `{:.1}` rounds what would
/// take more than five figures so to that many digits in the largest unit it reaches (`1.5 GiB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The same count as a size flag takes it, exact: `1536M`.
    pub fn flag(self) -> String {
        match self.exact_unit() {
            Some((unit, _, suffix)) => format!("{}{suffix}", self.0 / unit),
            None => self.0.to_string(),
        }
    }

    fn exact_unit(self) -> Option<(u64, &'static str, &'static str)> {
        UNITS.into_iter().find(|(unit, ..)| self.0 >= *unit && self.0.is_multiple_of(*unit))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reached = UNITS.into_iter().find(|(unit, ..)| self.0 >= *unit);
        let exact =
            self.exact_unit().filter(|(unit, ..)| f.precision().is_none() || self.0 / unit < FIVE_FIGURES);
        match (exact, f.precision(), reached) {
            (Some((unit, name, _)), ..) => write!(f, "{} {name}", self.0 / unit),
            (None, Some(digits), Some((unit, name, _))) => {
                write!(f, "{:.digits$} {name}", self.0 as f64 / unit as f64)
            }
            _ => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
#[path = "bytes_test.rs"]
mod tests;
