//! As whom, and below which directory, a process goes on that root has started (setresuid(2), setgroups(2), chroot(2)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use rustix::process::{DumpableBehavior, Resource, Rlimit, chdir, chroot, set_dumpable_behavior, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use thiserror::Error;

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// That of the group.
    pub gid: u32,
}

/// Why a process cannot be somebody else, or somewhere else.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// No such user.
    #[error("there is no user {0} in {PASSWD}")]
    NoUser(String),
    /// No such group.
    #[error("there is no group {0} in {GROUP}")]
    NoGroup(String),
    /// A number, whose group nobody knows.
    #[error("user {0} is not in {PASSWD}, so that its group is not known")]
    NoGroupOf(u32),
    /// One of them cannot be read.
    #[error("cannot read {0}")]
    Names(&'static str, #[source] io::Error),
    /// Only root may.
    #[error("cannot go on as user {} and group {}", .0.uid, .0.gid)]
    Become(User, #[source] io::Error),
    /// It is not there, or only root may.
    #[error("cannot make {} the root directory", .0.display())]
    Chroot(PathBuf, #[source] io::Error),
}

/// passwd(5)
const PASSWD: &str = "/etc/passwd";
/// group(5)
const GROUP: &str = "/etc/group";

impl User {
    /// `NAME`, `NAME:GROUP`, or numbers in place of either.
    ///
    /// # Errors
    /// A name that the host does not know.
    pub fn find(text: &str) -> Result<Self, IdentityError> {
        let read = |path| fs::read_to_string(path).map_err(|source| IdentityError::Names(path, source));
        Self::find_in(text, || read(PASSWD), || read(GROUP))
    }

    fn find_in(
        text: &str,
        passwd: impl Fn() -> Result<String, IdentityError>,
        groups: impl Fn() -> Result<String, IdentityError>,
    ) -> Result<Self, IdentityError> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let group = match group.map(|group| (group, group.parse())) {
            None => None,
            Some((_, Ok(gid))) => Some(gid),
            Some((name, Err(_))) => {
                let entry = entry(&groups()?, |fields| fields.first() == Some(&name));
                Some(entry.ok_or_else(|| IdentityError::NoGroup(name.to_owned()))?.0)
            }
        };
        match (user.parse(), group) {
            (Ok(uid), Some(gid)) => Ok(Self { uid, gid }),
            (Ok(uid), None) => {
                let entry =
                    entry(&passwd()?, |fields| fields.get(2).and_then(|it| it.parse().ok()) == Some(uid));
                let (_, gid) = entry.ok_or(IdentityError::NoGroupOf(uid))?;
                Ok(Self { uid, gid })
            }
            (Err(_), group) => {
                let entry = entry(&passwd()?, |fields| fields.first() == Some(&user));
                let (uid, own) = entry.ok_or_else(|| IdentityError::NoUser(user.to_owned()))?;
                Ok(Self { uid, gid: group.unwrap_or(own) })
            }
        }
    }

    /// Makes this process that user, for good, in no group but its own. It may lock as much memory as it likes, as who
    /// started it may.
    pub(crate) fn become_it(self) -> Result<(), IdentityError> {
        let Self { uid, gid } = self;
        let change = || {
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
            setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?;
            set_thread_groups(&[])?;
            set_thread_res_gid(group, group, group)?;
            set_thread_res_uid(user, user, user)?;
            // Who changes is root's in /proc, where it could not even look at itself (proc(5), PR_SET_DUMPABLE).
            set_dumpable_behavior(DumpableBehavior::Dumpable)
        };
        change().map_err(|error| IdentityError::Become(self, error.into()))
    }
}

/// The third and the fourth field, numbers, of the first line that is as asked for; of a group the fourth is no number.
fn entry(text: &str, is_it: impl Fn(&[&str]) -> bool) -> Option<(u32, u32)> {
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| is_it(fields))?;
    let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
    Some((number(2)?, number(3).unwrap_or_default()))
}

/// Makes `path` the root directory of this process.
pub(crate) fn enter(path: &Path) -> Result<(), IdentityError> {
    let change = || {
        chroot(path)?;
        chdir("/")
    };
    change().map_err(|error| IdentityError::Chroot(path.to_owned(), error.into()))
}

/// Leaves all groups but its own, if it may: root needs none of them.
pub(crate) fn leave_groups() {
    if let Err(error) = set_thread_groups(&[]) {
        tracing::debug!(%error, "supplementary groups stay");
    }
}

#[cfg(test)]
#[path = "identity_test.rs"]
mod tests;
