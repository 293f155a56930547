//! A range of guest physical addresses.

use std::fmt;

/// A half-open range of guest physical addresses (GPA), in bytes. Never wraps: `start + size <= 2^64 - 1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GuestRange {
    /// First GPA.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
}

impl GuestRange {
    /// The range `start..start + size`.
    pub const fn new(start: u64, size: u64) -> Self {
        debug_assert!(start.checked_add(size).is_some());
        Self { start, size }
    }

    /// One past the last GPA.
    pub const fn end(&self) -> u64 {
        self.start + self.size
    }

    /// Whether nothing lies in it.
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether `other` lies wholly inside.
    pub const fn contains(&self, other: &GuestRange) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// Whether both share at least one byte.
    pub const fn overlaps(&self, other: &GuestRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

impl fmt::Display for GuestRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end())
    }
}

impl fmt::Debug for GuestRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
