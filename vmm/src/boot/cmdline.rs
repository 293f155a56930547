//! The kernel command line: what a kernel can be given.

use miette::Diagnostic;
use thiserror::Error;

/// A command line no kernel, or not this one, can be given.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum CmdlineError {
    /// In bytes, without the NUL.
    #[error("the kernel command line is {len} bytes long, this kernel takes {limit}")]
    #[diagnostic(help("shorten it by {} bytes", len - limit))]
    TooLong {
        /// Its length.
        len: usize,
        /// The longest the kernel takes.
        limit: usize,
    },
    /// A NUL, which would end it, or anything beyond ASCII.
    #[error("the kernel command line has {character:?} at byte {at}")]
    #[diagnostic(help("use ASCII characters only"))]
    NotAscii {
        /// What is there.
        character: char,
        /// Where, in bytes from its start.
        at: usize,
    },
}

/// Checks length and characters.
pub fn check_cmdline(cmdline: &str, limit: usize) -> Result<(), CmdlineError> {
    if cmdline.len() > limit {
        return Err(CmdlineError::TooLong { len: cmdline.len(), limit });
    }
    match cmdline.char_indices().find(|(_, character)| *character == '\0' || !character.is_ascii()) {
        Some((at, character)) => Err(CmdlineError::NotAscii { character, at }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "cmdline_test.rs"]
mod tests;
