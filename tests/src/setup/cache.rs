//! The cache: one directory an artefact, named by a hash of what it was made from and by its version, and put
//! in place only when whole. What is there is therefore good, for any checkout.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

use super::{SetupError, version};
use crate::files::During;
use crate::tool::announce;

/// The lab's cache directory.
pub(super) struct Cache {
    root: PathBuf,
}

/// Held while artefacts are made; the kernel releases it however the lab ends.
pub(super) struct Lock {
    _file: File,
}

impl Cache {
    /// `$VMM_LAB_CACHE`, or `vmm-lab` in the user's cache directory.
    pub(super) fn open() -> Result<Cache, SetupError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = variable("VMM_LAB_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("vmm-lab")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/vmm-lab")))
            .ok_or(SetupError::NoHome)?;
        fs::create_dir_all(&root).during("create", &root)?;
        let root = fs::canonicalize(&root).during("resolve", &root)?;
        Ok(Cache { root })
    }

    /// Waits until no other lab makes artefacts.
    pub(super) fn lock(&self) -> Result<Lock, SetupError> {
        let path = self.root.join("lock");
        let file = File::options().create(true).append(true).open(&path).during("create", &path)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            announce("waiting for another lab that is being set up");
            rustix::fs::flock(&file, FlockOperation::LockExclusive).during("lock", &path)?;
        }
        Ok(Lock { _file: file })
    }

    /// The newest artefact called `name` that was made from the inputs of `key`.
    pub(super) fn find(&self, name: &str, key: &str) -> Option<PathBuf> {
        let prefix = format!("{name}-{key}-");
        let entries = fs::read_dir(&self.root).ok()?;
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|entry| entry.starts_with(&prefix))
            .max_by(|a, b| version::compare(a, b))
            .map(|entry| self.root.join(entry))
    }

    /// Where the artefact of these inputs and this version belongs.
    pub(super) fn place(&self, name: &str, key: &str, version: &str) -> PathBuf {
        self.root.join(format!("{name}-{key}-{version}"))
    }

    /// Fills a new directory and puts it at `place`.
    pub(super) fn stage(
        &self,
        place: &Path,
        fill: impl FnOnce(&Path) -> Result<(), SetupError>,
    ) -> Result<(), SetupError> {
        let part = self.work("staging")?;
        fs::remove_dir_all(&part).during("empty", &part)?;
        fs::create_dir(&part).during("create", &part)?;
        fill(&part)?;
        fs::rename(&part, place).during("put in place", place)?;
        Ok(())
    }

    /// A directory for steps of work that survive an interruption.
    pub(super) fn work(&self, name: &str) -> Result<PathBuf, SetupError> {
        let directory = self.root.join("work").join(name);
        fs::create_dir_all(&directory).during("create", &directory)?;
        Ok(directory)
    }

    /// Removes work that is done with, and whatever artefacts the ones in use have replaced.
    pub(super) fn tidy(&self, in_use: &[&Path]) {
        // What cannot be removed costs space, nothing else.
        let _ = fs::remove_dir_all(self.root.join("work"));
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let replaced = in_use.iter().any(|path| {
                let kept = path.file_name().map(|kept| kept.to_string_lossy().into_owned());
                kept.is_some_and(|kept| kept != name && same_key(&kept, &name))
            });
            if replaced {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Whether two artefacts differ in their version alone.
fn same_key(a: &str, b: &str) -> bool {
    let key = |name: &str| name.splitn(3, '-').take(2).map(str::to_owned).collect::<Vec<_>>();
    a.splitn(3, '-').count() == 3 && key(a) == key(b)
}

/// A short hash of what an artefact is made from.
pub(super) fn key(inputs: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update((input.len() as u64).to_le_bytes());
        hash.update(input);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "cache_test.rs"]
mod tests;
