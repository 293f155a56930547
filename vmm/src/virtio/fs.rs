//! Directories of the host that are asked for, and the daemons that share them.

use std::path::PathBuf;

use devices::virtio::fs::{MOST_QUEUES, TAG, wanted};
use devices::virtio::queue::MOST_SIZE;
use devices::virtio::vhost_user::Wanted;
use miette::Diagnostic;
use thiserror::Error;

use crate::problem::{Class, Problems};

/// The smallest size of a queue: a request of Linux takes up to eight descriptors besides those of its data.
const LEAST_SIZE: u16 = 16;

/// A shared directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsSpec {
    /// Where its daemon listens.
    pub socket: PathBuf,
    /// What the guest mounts it by.
    pub tag: String,
    /// How many request queues it has.
    pub queues: u16,
    /// The size of each.
    pub queue_size: u16,
}

/// A shared directory that makes no sense on any host.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum FsSpecError {
    /// A tag that does not fit.
    #[error("--fs: the tag `{0}` is not 1 to {TAG} bytes")]
    #[diagnostic(help(
        "the guest mounts the directory by its tag: give a short name, as in --fs socket=/run/home.sock,tag=home"
    ))]
    Tag(String),
    /// No queue, or too many.
    #[error("--fs tag={tag}: a device cannot have {queues} request queues, but 1 to {MOST_QUEUES}")]
    #[diagnostic(help("leave `queues` out: virtiofsd serves one"))]
    Queues {
        /// Its tag.
        tag: String,
        /// What was asked for.
        queues: u16,
    },
    /// A size no queue has.
    #[error(
        "--fs tag={tag}: a queue cannot have {size} entries, but a power of two from {LEAST_SIZE} to {MOST_SIZE}"
    )]
    #[diagnostic(help("leave `queue-size` out"))]
    QueueSize {
        /// Its tag.
        tag: String,
        /// What was asked for.
        size: u16,
    },
    /// One tag for two directories.
    #[error("--fs: the tag `{0}` is given twice")]
    #[diagnostic(help("the guest could not tell the directories apart: give each a tag of its own"))]
    SameTag(String),
}

/// What is wrong with them whatever the host.
pub(super) fn validate(shares: &[FsSpec], problems: &mut Problems) {
    let before = |index: usize| shares.get(..index).unwrap_or_default();
    let errors = shares.iter().enumerate().flat_map(|(index, fs)| check(fs, before(index)));
    errors.for_each(|error| problems.add(Class::Usage, error));
}

fn check(fs: &FsSpec, before: &[FsSpec]) -> Vec<FsSpecError> {
    let tag = || fs.tag.clone();
    let mut errors = Vec::new();
    if !(1..=TAG).contains(&fs.tag.len()) || fs.tag.contains('\0') {
        errors.push(FsSpecError::Tag(tag()));
    }
    if !(1..=MOST_QUEUES).contains(&fs.queues) {
        errors.push(FsSpecError::Queues { tag: tag(), queues: fs.queues });
    }
    if !fs.queue_size.is_power_of_two() || !(LEAST_SIZE..=MOST_SIZE).contains(&fs.queue_size) {
        errors.push(FsSpecError::QueueSize { tag: tag(), size: fs.queue_size });
    }
    if before.iter().any(|other| other.tag == fs.tag) {
        errors.push(FsSpecError::SameTag(tag()));
    }
    errors
}

impl FsSpec {
    /// What it is to be, if that makes sense.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        check(self, &[])
            .is_empty()
            .then(|| wanted(self.socket.clone(), &self.tag, self.queues, self.queue_size))
    }
}

#[cfg(test)]
#[path = "fs_test.rs"]
mod tests;
