//! Which files a process reaches by path: those of a list and no others (Landlock,
//! Documentation/userspace-api/landlock.rst). What is open stays so, and so does what threads gave up that run already.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
};

use crate::rights::KNOWN;

/// What is done with a file, or with all below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Reading and listing.
    Read,
    /// Reading, writing, and ioctl(2) of devices.
    Write,
    /// The same, and making files, sockets, links and directories there and removing them.
    Make,
    /// The same of a directory that is made if it is not there.
    Own,
    /// Writing a file that is made if it is not there.
    Append,
    /// Making sockets and links in a directory, and removing them.
    Bind,
    /// Writing files in a directory, in place of what is there.
    Replace,
    /// Removing files.
    Remove,
    /// Executing.
    Execute,
}

impl Use {
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            Self::Read => AccessFs::ReadFile | AccessFs::ReadDir,
            Self::Write => {
                Self::Read.rights() | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev
            }
            Self::Make | Self::Own => AccessFs::from_all(KNOWN) & !BitFlags::from(AccessFs::Execute),
            Self::Append => AccessFs::WriteFile | AccessFs::Truncate,
            // Who looks whether there is one locks the directory.
            Self::Bind => AccessFs::ReadDir | AccessFs::MakeSock | AccessFs::MakeSym | AccessFs::RemoveFile,
            Self::Replace => {
                AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Refer | Self::Append.rights()
            }
            Self::Remove => AccessFs::RemoveFile.into(),
            Self::Execute => AccessFs::Execute | AccessFs::ReadFile,
        }
    }
}

/// A list of files, with what each is for. Of one that is named twice all that is said holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    files: Vec<(PathBuf, Use)>,
}

impl Reach {
    /// Nothing by path.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds a file or a directory, which need not be there.
    pub fn and(mut self, path: impl Into<PathBuf>, how: Use) -> Self {
        self.files.push((path.into(), how));
        self
    }

    /// Adds the directory that a file is in, or will be.
    pub fn and_where(self, file: &Path, how: Use) -> Self {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.and(parent.unwrap_or(Path::new(".")), how)
    }

    /// Confines the calling thread to it, and all that it starts, for good.
    ///
    /// # Errors
    /// The kernel knows Landlock and does not do it. That it has none is no error.
    pub(crate) fn confine(&self) -> Result<(), RulesetError> {
        let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?.create()?;
        for (path, how) in &self.files {
            let made = match how {
                Use::Own => fs::create_dir(path),
                // Nobody reads a named pipe yet, and what is no file needs not be made.
                Use::Append if !path.exists() => {
                    OpenOptions::new().append(true).create(true).open(path).map(drop)
                }
                _ => Ok(()),
            };
            if let Err(error) = made
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                tracing::debug!(path = %path.display(), %error, "cannot be made");
            }
            // What is not there, or may not be opened, needs no rule: it is no file that could be used.
            let Ok(opened) = PathFd::new(path) else { continue };
            let rights = match path.is_dir() {
                true => how.rights(),
                false => how.rights() & AccessFs::from_file(KNOWN),
            };
            ruleset = ruleset.add_rule(PathBeneath::new(opened, rights))?;
        }
        ruleset.restrict_self()?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "reach_test.rs"]
mod tests;
